//! One shard, mapped and believed: its hash, its footer and its shape are checked before any of its rows.

use crate::codec::{self, plain::Columns};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::reader::CachedSample;
use crate::{map, schema};
use arrow_array::RecordBatch;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A shard whose bytes are the manifest's.
pub(crate) struct Shard {
    path: PathBuf,
    bytes: Bytes,
    footer: ArrowReaderMetadata,
    start: u64,
}

impl Shard {
    /// Maps the shard of `unit` and checks everything but its rows.
    pub(crate) fn open(folder: &Path, plan: &Plan, unit: usize, commit: &Commit) -> Result<Self> {
        let path = folder.join(&commit.shard);
        let bytes = map::map(&path, commit.bytes)?;
        let got = Fingerprint::of(&bytes);
        if got != commit.blake3 {
            return Err(Error::Checksum { path, expected: commit.blake3, got });
        }
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = guarded(&path, || ArrowReaderMetadata::load(&bytes, options))?;
        check_footer(&footer, plan, unit).map_err(|problem| Error::malformed(&path, problem))?;
        Ok(Self { path, bytes, footer, start: plan.units[unit].start })
    }

    /// Decodes and checks rows of a block; `rows` counts within the block and must lie in it.
    pub(crate) fn read(&self, plan: &Plan, block: usize, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        let wanted = (rows.end - rows.start) as usize;
        let batches = guarded(&self.path, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.footer.clone())
                .with_row_groups(vec![block])
                .with_batch_size(wanted.max(1))
                .with_offset(rows.start as usize)
                .with_limit(wanted)
                .build()?
                .map(|batch| Ok(batch?))
                .collect::<Result<Vec<RecordBatch>, ParquetError>>()
        })?;
        let first = block as u64 * plan.rows_per_block() + rows.start;
        let mut samples = Vec::with_capacity(wanted);
        for batch in &batches {
            let columns = Columns::of(plan, batch).map_err(|problem| Error::malformed(&self.path, problem))?;
            for i in 0..columns.len() {
                let row = first + samples.len() as u64;
                let sample = self.start + row;
                samples.push(believe(plan, &columns, i, sample).map_err(|problem| Error::Row {
                    path: self.path.clone(),
                    row,
                    sample,
                    problem,
                })?);
            }
        }
        if samples.len() != wanted {
            return Err(Error::malformed(&self.path, format!("block {block} gave {} of {wanted} rows", samples.len())));
        }
        Ok(samples)
    }
}

/// Runs the Parquet decoder. It panics on some damaged pages, which only a shard that a forged manifest vouches for can
/// have; nothing it was working on is used afterwards.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up on a damaged page".into())))
        .map_err(|source| Error::Parquet { path: path.to_owned(), source })
}

/// Row `i` of `columns`, if it is what a teacher said about the sample `expected`.
fn believe(plan: &Plan, columns: &Columns<'_>, i: usize, expected: u64) -> Result<CachedSample, String> {
    let (sample, rows, stored) = columns.row(i)?;
    if sample.id.0 != expected {
        return Err(format!("the row says it is sample {}", sample.id.0));
    }
    let computed = sample.input_hash();
    if computed != stored {
        return Err(format!("its tokens hash to {computed}, {stored} is stored: the tokens are another input's"));
    }
    codec::check_row(plan, &sample, &rows)?;
    Ok(CachedSample { sample, rows })
}

/// Constants, columns and blocks as the plan has them; counts are bounded here, before memory is taken for any.
fn check_footer(footer: &ArrowReaderMetadata, plan: &Plan, unit: usize) -> Result<(), String> {
    let metadata = footer.metadata();
    let stored = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    for (key, value) in schema::constants(plan, unit) {
        let got = stored.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
        if got != Some(value.as_str()) {
            return Err(format!("footer has {key} = {}, the plan says {value}", got.unwrap_or("nothing")));
        }
    }
    let expected = codec::schema_of(plan);
    if footer.schema().fields() != expected.fields() {
        return Err(format!("columns are {}, the format has {}", footer.schema(), expected));
    }
    let rows = plan.units[unit].end - plan.units[unit].start;
    let per_block = plan.rows_per_block();
    if metadata.num_row_groups() as u64 != rows.div_ceil(per_block) {
        return Err(format!("{} blocks, {rows} rows make {}", metadata.num_row_groups(), rows.div_ceil(per_block)));
    }
    let values_of_row = u128::from(plan.max_length) * u128::from(plan.selection.cap());
    for (block, group) in metadata.row_groups().iter().enumerate() {
        let expected = per_block.min(rows - block as u64 * per_block);
        if u64::try_from(group.num_rows()) != Ok(expected) {
            return Err(format!("block {block} has {} rows, {expected} belong there", group.num_rows()));
        }
        let limit = u128::from(expected) * values_of_row;
        for column in group.columns() {
            if !u128::try_from(column.num_values()).is_ok_and(|values| values <= limit) {
                let (name, values) = (column.column_path(), column.num_values());
                return Err(format!("block {block}: column {name} claims {values} values, {limit} are possible"));
            }
        }
    }
    Ok(())
}
