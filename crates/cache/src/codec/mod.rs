//! Encoding of samples and soft rows to the bytes of a shard and back, and the invariants of every row in both
//! directions.

pub(crate) mod arrow;
mod columns;
mod kept;
pub(crate) mod packed;
mod plain;

pub(crate) use arrow::Row;
pub(crate) use columns::RowColumns;
pub(crate) use packed::{Model, model_of};

use crate::plan::{Layout, Plan};
use crate::row_problem::RowProblem;
use crate::schema;
use arrow::{lists, numbers};
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch};
use logitcask_core::{ExtraColumn, Fingerprint, InputHash, Positions, Sample, SoftRows, Truncation};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;
use std::sync::Arc;

/// Encodes `unit`'s shard; the same rows always give the same bytes. `id` is the plan's.
pub(crate) fn encode(plan: &Plan, id: Fingerprint, unit: usize, rows: &[Row]) -> Result<Vec<u8>, ParquetError> {
    let model = (plan.layout == Layout::Packed).then(|| packed::train(plan, rows));
    let per_block = plan.rows_per_group() as usize;
    let blocks = rows.chunks(per_block).enumerate();
    write(plan, id, unit, blocks.map(|(number, block)| to_batch(plan, block, model.as_ref(), number == 0)))
}

/// Writes one row group per batch.
pub(crate) fn write(
    plan: &Plan,
    id: Fingerprint,
    unit: usize,
    blocks: impl Iterator<Item = Result<RecordBatch, ParquetError>>,
) -> Result<Vec<u8>, ParquetError> {
    // The Arrow schema is left out of the footer: plain Parquet types describe the columns completely.
    let options =
        ArrowWriterOptions::new().with_properties(schema::properties(plan, id, unit)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema::columns(plan), options)?;
    for block in blocks {
        writer.write(&block?)?;
        writer.flush()?;
    }
    writer.into_inner()
}

/// Converts the rows to the columns of [`schema::columns`]. The first block of a packed shard contains the model.
pub(crate) fn to_batch(
    plan: &Plan,
    rows: &[Row],
    model: Option<&Model>,
    is_first: bool,
) -> Result<RecordBatch, ParquetError> {
    let hashes: Vec<[u64; 2]> = rows.iter().map(|(sample, _)| hash_numbers(sample.input_hash())).collect();
    let hashes = |half: usize| PrimitiveArray::<UInt64Type>::from_iter_values(hashes.iter().map(|hash| hash[half]));
    let mut columns: Vec<ArrayRef> = vec![
        numbers::<UInt64Type>(rows, |(s, _)| s.id.0),
        numbers::<UInt64Type>(rows, |(s, _)| s.origin.document),
        numbers::<UInt32Type>(rows, |(s, _)| s.origin.offset),
        Arc::new(hashes(0)),
        Arc::new(hashes(1)),
        lists::<UInt32Type, _>(rows, |(s, _)| s.input_ids.iter().copied()),
    ];
    if !plan.positions.is_all() {
        columns.push(lists::<UInt32Type, _>(rows, |(s, _)| s.position_indices().map(|position| position as u32)));
    }
    columns.extend(match model {
        None => plain::columns_of(plan, rows),
        Some(model) => packed::columns_of(plan, rows, model, is_first),
    });
    let extra = |i: usize| lists::<Float32Type, _>(rows, move |(_, r)| r.extras[i].values.iter().copied());
    columns.extend((0..plan.extras.len()).map(extra));
    Ok(RecordBatch::try_new(schema::columns(plan), columns)?)
}

/// The two numbers that an input hash is stored as.
fn hash_numbers(hash: InputHash) -> [u64; 2] {
    let number = u128::from_le_bytes(hash.0);
    [number as u64, (number >> 64) as u64]
}

/// The input hash that is stored as these numbers.
fn hash_of_numbers([low, high]: [u64; 2]) -> InputHash {
    InputHash((u128::from(low) | u128::from(high) << 64).to_le_bytes())
}

/// Checks a sample's tokens and positions.
fn check_sample(plan: &Plan, sample: &Sample) -> Result<(), RowProblem> {
    let length = sample.input_ids.len();
    if !(2..=plan.max_length as usize).contains(&length) {
        return Err(RowProblem::TokenCount { got: length, most: plan.max_length });
    }
    if let Some(&token) = sample.input_ids.iter().find(|&&id| id >= plan.vocab_size) {
        return Err(RowProblem::Token { token, vocab_size: plan.vocab_size });
    }
    let Positions::Chosen(chosen) = &sample.positions else {
        // A sample whose every position was chosen has them listed like any other.
        return if plan.positions.is_all() { Ok(()) } else { Err(RowProblem::PositionsNotListed) };
    };
    if plan.positions.is_all() {
        return Err(RowProblem::PositionsListed);
    }
    let end = sample.next_tokens();
    let fits = chosen.is_sorted_by(|a, b| a < b) && chosen.last().is_some_and(|&last| (last as usize) < end);
    if fits { Ok(()) } else { Err(RowProblem::Positions { end }) }
}

/// Checks everything that the format requires of one row, before writing and after reading. `extras` are the columns
/// whose numbers the row has.
pub(crate) fn check_row(
    plan: &Plan,
    extras: &[ExtraColumn],
    sample: &Sample,
    rows: &SoftRows,
) -> Result<(), RowProblem> {
    check_sample(plan, sample)?;
    rows.check(&plan.keep, &sample.labels(), plan.vocab_size)?;
    check_values(&plan.keep, rows)?;
    check_extras(extras, sample, rows)
}

/// Checks that a row has the numbers of these columns and no others, and that they can be stored.
fn check_extras(extras: &[ExtraColumn], sample: &Sample, rows: &SoftRows) -> Result<(), RowProblem> {
    if rows.extras.len() != extras.len() {
        return Err(RowProblem::ExtraCount { got: rows.extras.len(), expected: extras.len() });
    }
    for (column, numbers) in extras.iter().zip(&rows.extras) {
        let (got, expected) = (numbers.values.len(), column.len(sample.position_count()));
        let name = || column.name.clone();
        if got != expected || numbers.per_position != column.per_position() {
            return Err(RowProblem::ExtraLength { column: name(), got, expected });
        }
        let is_foreign = |number: &f32| !number.is_finite() || column.precision.round(*number) != *number;
        if let Some(&number) = numbers.values.iter().find(|number| is_foreign(number)) {
            return Err(RowProblem::ExtraNumber { column: name(), number, precision: column.precision.name() });
        }
    }
    Ok(())
}

/// Accepts only numbers that the format represents exactly, so that both layouts return what was written.
fn check_values(keep: &Truncation, rows: &SoftRows) -> Result<(), RowProblem> {
    let find = |log_probs| keep.values.find_foreign(log_probs);
    match find(&rows.log_probs).or_else(|| find(&rows.gold_log_probs)) {
        Some(log_prob) => Err(RowProblem::Precision { log_prob, precision: keep.values }),
        None => Ok(()),
    }
}
