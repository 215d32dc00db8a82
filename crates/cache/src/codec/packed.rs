//! The `packed` layout of the kept classes: one entropy-coded binary value per sample, see [`crate::pack`].

use super::KeptClasses;
use super::arrow::Row;
use super::kept::{Find, KeptColumns};
use crate::column_chunk::{ColumnError, ColumnRows};
use crate::pack::{self, CountMode, PackError, ValueCode};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use crate::schema;
use arrow_array::ArrayRef;
use arrow_array::builder::BinaryBuilder;
use logitcask_core::{LogProbPrecision, Selection, SoftRows, Truncation};
use parquet::data_type::ByteArrayType;
use std::sync::Arc;

pub(crate) use pack::Model;

/// How the number of kept classes per position is coded.
fn count_mode(keep: &Truncation, vocab_size: u32) -> CountMode {
    let cap = keep.max_kept(vocab_size) as u16;
    match keep.selection {
        Selection::Dense {} => CountMode::Dense,
        Selection::Sample { .. } => CountMode::Split { n: cap },
        _ if keep.is_fixed() => CountMode::Fixed(cap),
        _ => CountMode::Varying { cap },
    }
}

/// How log-probabilities of the cache are coded.
fn value_code(keep: &Truncation) -> ValueCode {
    match keep.values {
        LogProbPrecision::F16 {} => ValueCode::Half,
        LogProbPrecision::Quantised { .. } => ValueCode::Steps,
    }
}

/// Converts values to codes, see [`logitcask_core::LogProbPrecision::code`]; every value of a checked row has one.
fn coded(keep: &Truncation, rows: &SoftRows) -> pack::CodedEntries {
    let code = |lp: &f32| keep.values.code(*lp).unwrap_or(keep.values.max_code());
    let heads = match keep.is_sampled() {
        true => rows.counts.iter().zip(&rows.drawn).map(|(count, drawn)| count - drawn).collect(),
        false => Vec::new(),
    };
    pack::CodedEntries {
        counts: rows.counts.clone(),
        heads,
        class_ids: rows.class_ids.clone(),
        codes: rows.log_probs.iter().map(code).collect(),
    }
}

/// Trains the model of a shard with these rows.
pub(crate) fn train(plan: &Plan, rows: &[Row]) -> Model {
    let coded: Vec<pack::CodedEntries> = rows.iter().map(|(_, rows)| coded(&plan.keep, rows)).collect();
    let tokens: Vec<_> = rows.iter().map(|(sample, _)| sample.tokens_at_positions()).collect();
    let samples = tokens.iter().map(|tokens| &**tokens).zip(&coded);
    Model::train(plan.vocab_size, count_mode(&plan.keep, plan.vocab_size), value_code(&plan.keep), samples)
}

/// Decodes the model that a shard's first row contains.
pub(crate) fn model_of(plan: &Plan, bytes: &[u8]) -> Result<Model, PackError> {
    Model::from_bytes(bytes, plan.vocab_size, count_mode(&plan.keep, plan.vocab_size), value_code(&plan.keep))
}

/// Encodes the kept classes of `rows` as columns.
pub(crate) fn columns_of(plan: &Plan, rows: &[Row], model: &Model, is_first: bool) -> Vec<ArrayRef> {
    let (mut packed, mut models) = (BinaryBuilder::new(), BinaryBuilder::new());
    for (i, (sample, soft)) in rows.iter().enumerate() {
        packed.append_value(model.encode(&sample.tokens_at_positions(), &coded(&plan.keep, soft)));
        models.append_value(if is_first && i == 0 { model.to_bytes() } else { Vec::new() });
    }
    vec![Arc::new(packed.finish()), Arc::new(models.finish())]
}

/// Reads the packed classes of rows in order, with the model that decodes them.
pub(crate) struct PackedColumns<'a> {
    packed: ColumnRows<ByteArrayType>,
    model: &'a Model,
}

impl<'a> PackedColumns<'a> {
    /// Opens the column through `find`, by name.
    pub(crate) fn of(model: &'a Model, find: &Find<'_, '_>) -> Result<Self, ColumnError> {
        Ok(Self { packed: find(schema::PACKED)?.open()?, model })
    }
}

impl KeptColumns for PackedColumns<'_> {
    // Memory is bounded by the number of tokens and the plan's maximum number of classes.
    fn next(&mut self, plan: &Plan, tokens: &[u32]) -> Result<KeptClasses, RowProblem> {
        let packed = self.packed.next_value()?;
        let entries = self.model.decode(tokens, packed.data())?;
        let keep = &plan.keep;
        let last = keep.values.max_code();
        if let Some(&code) = entries.codes.iter().find(|code| **code > last) {
            return Err(RowProblem::Code { code, last });
        }
        let drawn = match keep.is_sampled() {
            true => {
                entries.counts.iter().zip(&entries.heads).map(|(count, head)| count.saturating_sub(*head)).collect()
            }
            false => vec![0; entries.counts.len()],
        };
        Ok(KeptClasses {
            counts: entries.counts,
            drawn,
            class_ids: entries.class_ids,
            log_probs: entries.codes.iter().map(|code| keep.values.value(*code)).collect(),
        })
    }
}
