//! Samples and soft rows to the bytes of a shard and back, and what must hold of every row on either way.

pub(crate) mod plain;

use crate::plan::{Layout, Plan};
use crate::schema;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use half::f16;
use logitcask_core::{Sample, SoftRows};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::errors::ParquetError;

/// The bytes of `unit`'s shard: the same rows always give the same bytes.
pub(crate) fn encode(plan: &Plan, unit: usize, rows: &[(Sample, SoftRows)]) -> Result<Vec<u8>, ParquetError> {
    let blocks = rows.chunks(plan.rows_per_block() as usize);
    write(plan, unit, blocks.map(|block| to_batch(plan, block)))
}

/// One row group for each batch.
pub(crate) fn write(
    plan: &Plan,
    unit: usize,
    blocks: impl Iterator<Item = Result<RecordBatch, ParquetError>>,
) -> Result<Vec<u8>, ParquetError> {
    // Without the Arrow schema in the footer: plain Parquet types say all there is.
    let options =
        ArrowWriterOptions::new().with_properties(schema::properties(plan, unit)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema_of(plan), options)?;
    for block in blocks {
        writer.write(&block?)?;
        writer.flush()?;
    }
    writer.into_inner()
}

/// The columns that `plan`'s shards have.
pub(crate) fn schema_of(plan: &Plan) -> SchemaRef {
    match plan.layout {
        Layout::Plain => schema::plain(plan.selection),
    }
}

/// The rows as columns.
pub(crate) fn to_batch(plan: &Plan, rows: &[(Sample, SoftRows)]) -> Result<RecordBatch, ParquetError> {
    match plan.layout {
        Layout::Plain => plain::to_batch(plan, rows),
    }
}

/// What reading gives back for `rows`: every log-probability rounded to f16.
pub(crate) fn rounded(rows: &SoftRows) -> SoftRows {
    let round = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    SoftRows { log_probs: round(&rows.log_probs), gold_log_probs: round(&rows.gold_log_probs), ..rows.clone() }
}

/// Everything the format demands of one row, whichever side it comes from.
pub(crate) fn check_row(plan: &Plan, sample: &Sample, rows: &SoftRows) -> Result<(), String> {
    let length = sample.input_ids.len();
    if !(2..=plan.max_length as usize).contains(&length) {
        return Err(format!("{length} tokens, 2 to {} belong in a sample", plan.max_length));
    }
    if let Some(id) = sample.input_ids.iter().find(|&&id| id >= plan.vocab_size) {
        return Err(format!("token {id} is outside the vocabulary of {}", plan.vocab_size));
    }
    let cap = plan.selection.cap();
    let fits = |count: u16| if plan.selection.is_fixed() { u32::from(count) == cap } else { u32::from(count) <= cap };
    if let Some(position) = rows.counts.iter().position(|&count| !fits(count)) {
        let count = rows.counts[position];
        return Err(format!("position {position}: {count} classes kept, {:?} keeps another number", plan.selection));
    }
    rows.check(sample.gold_ids(), plan.vocab_size).map_err(|e| e.to_string())
}
