//! The `packed` layout of the teacher's output: one entropy-coded binary value per sample, see [`crate::pack`].

use super::arrow::Row;
use super::kept::{Find, KeptColumns};
use crate::column_chunk::{ColumnError, ColumnRows};
use crate::pack::{self, CodedRows, CountMode, Inputs, LabelMode, PackError, RowShape, ValueCode};
use crate::plan::Plan;
use crate::row_problem::RowProblem;
use crate::schema;
use arrow_array::ArrayRef;
use arrow_array::builder::BinaryBuilder;
use logitcask_core::{GoldSource, LogProbPrecision, Sample, Selection, SoftRows, TailAtom, Truncation};
use parquet::data_type::ByteArrayType;
use std::borrow::Cow;
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
        LogProbPrecision::Quantised { step } => ValueCode::Steps((1.0 / step) as u16),
    }
}

/// What all rows of the cache have in common.
fn row_shape(plan: &Plan) -> RowShape {
    let (vocab, keep) = (plan.vocab_size, &plan.keep);
    let labels = match keep.source.gold {
        GoldSource::Always => LabelMode::All,
        GoldSource::Kept => LabelMode::Kept,
        GoldSource::None => LabelMode::Unknown,
    };
    let (counts, codes, atoms) = (count_mode(keep, vocab), value_code(keep), keep.atoms());
    RowShape { vocab, counts, codes, atoms, log_z: keep.source.log_z, labels }
}

/// The tokens and the labels at a sample's positions.
type OwnInputs<'a> = (Cow<'a, [u32]>, Cow<'a, [u32]>);

fn own_inputs(sample: &Sample) -> OwnInputs<'_> {
    (sample.tokens_at_positions(), sample.labels())
}

fn inputs<'a>((tokens, labels): &'a OwnInputs<'_>) -> Inputs<'a> {
    Inputs { tokens, labels }
}

/// Converts values to codes, see [`logitcask_core::LogProbPrecision::code`]; every value of a checked row has one.
fn coded(keep: &Truncation, rows: &SoftRows) -> CodedRows {
    let code = |lp: &f32| keep.values.code(*lp).unwrap_or(keep.values.max_code());
    let heads = match keep.is_sampled() {
        true => rows.counts.iter().zip(&rows.drawn).map(|(count, drawn)| count - drawn).collect(),
        false => Vec::new(),
    };
    CodedRows {
        counts: rows.counts.clone(),
        heads,
        class_ids: rows.class_ids.clone(),
        codes: rows.log_probs.iter().map(code).collect(),
        log_z: rows.log_z.iter().map(|log_z| log_z.to_bits()).collect(),
        gold_ranks: rows.gold_ranks.clone(),
        gold_codes: rows.gold_log_probs.iter().map(code).collect(),
        atoms: rows.tail.iter().map(|atom| [atom.log_prob, atom.log_weight]).collect(),
    }
}

/// Trains the model of a shard with these rows.
pub(crate) fn train(plan: &Plan, rows: &[Row]) -> Model {
    let coded: Vec<CodedRows> = rows.iter().map(|(_, rows)| coded(&plan.keep, rows)).collect();
    let own: Vec<OwnInputs<'_>> = rows.iter().map(|(sample, _)| own_inputs(sample)).collect();
    Model::train(row_shape(plan), own.iter().map(inputs).zip(&coded))
}

/// Decodes the model that a shard's first row contains.
pub(crate) fn model_of(plan: &Plan, bytes: &[u8]) -> Result<Model, PackError> {
    Model::from_bytes(bytes, row_shape(plan))
}

/// Encodes the teacher's output for `rows` as columns.
pub(crate) fn columns_of(plan: &Plan, rows: &[Row], model: &Model, is_first: bool) -> Vec<ArrayRef> {
    let (mut packed, mut models) = (BinaryBuilder::new(), BinaryBuilder::new());
    for (i, (sample, soft)) in rows.iter().enumerate() {
        packed.append_value(model.encode(inputs(&own_inputs(sample)), &coded(&plan.keep, soft)));
        models.append_value(if is_first && i == 0 { model.to_bytes() } else { Vec::new() });
    }
    vec![Arc::new(packed.finish()), Arc::new(models.finish())]
}

/// Reads the packed rows in order, with the model that decodes them.
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
    fn next(&mut self, plan: &Plan, sample: &Sample) -> Result<SoftRows, RowProblem> {
        let packed = self.packed.next_value()?;
        let rows = self.model.decode(inputs(&own_inputs(sample)), packed.data())?;
        let keep = &plan.keep;
        let last = keep.values.max_code();
        if let Some(&code) = rows.codes.iter().chain(&rows.gold_codes).find(|code| **code > last) {
            return Err(RowProblem::Code { code, last });
        }
        let drawn = match keep.is_sampled() {
            true => rows.counts.iter().zip(&rows.heads).map(|(count, head)| count.saturating_sub(*head)).collect(),
            false => vec![0; rows.counts.len()],
        };
        let values = |codes: &[u16]| codes.iter().map(|code| keep.values.value(*code)).collect();
        let atom = |&[log_prob, log_weight]: &[i16; 2]| TailAtom { log_prob, log_weight };
        Ok(SoftRows {
            counts: rows.counts,
            drawn,
            class_ids: rows.class_ids,
            log_probs: values(&rows.codes),
            log_z: rows.log_z.iter().map(|bits| f32::from_bits(*bits)).collect(),
            gold_log_probs: values(&rows.gold_codes),
            gold_ranks: rows.gold_ranks,
            tail: rows.atoms.iter().map(atom).collect(),
            ..SoftRows::new(keep)
        })
    }
}
