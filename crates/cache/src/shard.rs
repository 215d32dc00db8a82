//! One shard, mapped and believed: its hash, its footer and its shape are checked before any of its rows.

use crate::codec::{self, Columns, Model};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::pages::{self, Limits};
use crate::plan::{Layout, Plan, Unit};
use crate::reader::CachedSample;
use crate::{map, schema};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A shard whose bytes are the manifest's.
pub(crate) struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// The bytes are a map of the file, which somebody might cut.
    is_mapped: bool,
    footer: ArrowReaderMetadata,
    start: u64,
    /// What decodes packed rows.
    model: Option<Model>,
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
        Self::of_map(path, bytes, plan, unit)
    }

    /// The shard of `unit` in a map of the file at `path`, whoever vouches for its bytes.
    pub(crate) fn of_map(path: PathBuf, bytes: Bytes, plan: &Plan, unit: usize) -> Result<Self> {
        Ok(Self { is_mapped: true, ..Self::of_bytes(path, bytes, plan, unit)? })
    }

    /// The shard of `unit` in `bytes`, whoever vouches for them.
    pub(crate) fn of_bytes(path: PathBuf, bytes: Bytes, plan: &Plan, unit: usize) -> Result<Self> {
        let load = |pages| {
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(pages);
            guarded(&path, || ArrowReaderMetadata::load(&bytes, options))
        };
        let malformed = |problem| Error::malformed(&path, problem);
        let bare = load(PageIndexPolicy::Skip)?;
        check_footer(&bare, plan, unit).map_err(malformed)?;
        pages::check_indexes(&bytes, bare.metadata()).map_err(malformed)?;
        let footer = load(PageIndexPolicy::Required)?;
        let limits = |block| Limits::of(plan, rows_of_block(plan, unit, block as u64));
        pages::check(&bytes, footer.metadata(), limits).map_err(malformed)?;
        let start = plan.units[unit].start;
        let mut shard = Self { path, bytes, is_mapped: false, footer, start, model: None };
        if plan.layout == Layout::Packed {
            let mut model = None;
            shard.decode(shard.bytes.clone(), 0, 0..1, Some(schema::PACKED_MODEL), |first| {
                let found = codec::model_of(plan, &first).map_err(|problem| Error::malformed(&shard.path, problem))?;
                model = Some(found);
                Ok(())
            })?;
            shard.model = model;
        }
        Ok(shard)
    }

    /// Decodes and checks rows of a block; `rows` counts within the block and must lie in it.
    pub(crate) fn read(&self, plan: &Plan, block: usize, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        self.read_from(self.bytes.clone(), plan, block, rows)
    }

    /// [`Self::read`] through another view of the shard's bytes.
    pub(crate) fn read_from(
        &self,
        input: impl ChunkReader + Clone + 'static,
        plan: &Plan,
        block: usize,
        rows: Range<u64>,
    ) -> Result<Vec<CachedSample>> {
        if self.is_mapped {
            map::check_whole(&self.path, self.bytes.len() as u64)?;
        }
        let mut samples = Vec::with_capacity((rows.end - rows.start) as usize);
        let mut first = block as u64 * plan.rows_per_block() + rows.start;
        self.decode(input, block, rows, None, |batch| {
            self.believe_all(plan, &batch, first, &mut samples)?;
            first += batch.num_rows() as u64;
            Ok(())
        })?;
        Ok(samples)
    }

    /// Appends the rows of a batch, of which the first is the shard's row `first`, if they are what they must be.
    fn believe_all(&self, plan: &Plan, batch: &RecordBatch, first: u64, out: &mut Vec<CachedSample>) -> Result<()> {
        let columns = Columns::of(plan, batch, self.model.as_ref());
        let columns = columns.map_err(|problem| Error::malformed(&self.path, problem))?;
        for i in 0..columns.len() {
            let row = first + i as u64;
            let sample = self.start + row;
            let error = |problem| Error::Row { path: self.path.clone(), row, sample, problem };
            out.push(believe(plan, &columns, i, sample).map_err(error)?);
        }
        Ok(())
    }

    /// Hands `each` the columns of some rows, in batches from the first to the last; all columns, or one. Only the pages that
    /// hold them are decoded, but those from their first row: within a page, the decoder would look without end for rows to
    /// pass over that a damaged page lacks.
    fn decode(
        &self,
        input: impl ChunkReader + Clone + 'static,
        block: usize,
        rows: Range<u64>,
        only: Option<&str>,
        mut each: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let pages = self.footer.metadata().page_index_for_row_group(block);
        let first_row = |column| {
            let firsts = pages.page_locations(column).into_iter().flatten().map(|page| page.first_row_index as u64);
            firsts.take_while(|first| *first <= rows.start).last().unwrap_or(0)
        };
        let mut columns_from = BTreeMap::<u64, Vec<usize>>::new();
        for (column, field) in self.footer.schema().fields().iter().enumerate() {
            // The model is read once, not with every page.
            if only.map_or(field.name() != schema::PACKED_MODEL, |only| field.name() == only) {
                columns_from.entry(first_row(column)).or_default().push(column);
            }
        }
        if let [(first, roots)] = &columns_from.iter().collect::<Vec<_>>()[..]
            && **first == rows.start
        {
            // Page by page: what a page unfolds to stays in the cache of a core until it has been looked at.
            return self.decode_from(input, block, rows, roots, schema::ROWS_PER_PAGE, each);
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (first, roots) in columns_from {
            let (all, skipped) = (first..rows.end, (rows.start - first) as usize);
            let wanted = (rows.end - rows.start) as usize;
            self.decode_from(input.clone(), block, all, &roots, skipped + wanted, |batch| {
                let batch = batch.slice(skipped, wanted);
                fields.extend(batch.schema().fields().iter().cloned());
                columns.extend(batch.columns().iter().cloned());
                Ok(())
            })?;
        }
        each(guarded(&self.path, || Ok(RecordBatch::try_new(Schema::new(fields).into(), columns)?))?)
    }

    /// All of `rows` in the columns `roots`, each of which begins a page with their first, so many at once.
    fn decode_from(
        &self,
        input: impl ChunkReader + 'static,
        block: usize,
        rows: Range<u64>,
        roots: &[usize],
        at_once: usize,
        mut each: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let wanted = (rows.end - rows.start) as usize;
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), roots.iter().copied());
        let mut batches = guarded(&self.path, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.footer.clone())
                .with_row_groups(vec![block])
                .with_projection(mask)
                .with_batch_size(at_once.max(1))
                .with_offset(rows.start as usize)
                .with_limit(wanted)
                .build()
        })?;
        let mut got = 0;
        while let Some(batch) = guarded(&self.path, || Ok(batches.next().transpose()?))? {
            if batch.num_rows() != at_once.min(wanted - got) {
                break;
            }
            got += batch.num_rows();
            each(batch)?;
        }
        match got == wanted {
            true => Ok(()),
            false => Err(Error::malformed(&self.path, format!("block {block} gave {got} of {wanted} rows"))),
        }
    }
}

/// The id of the plan that the shard at `path` was made from, where its footer can be read.
pub(crate) fn plan_id(path: &Path) -> Option<String> {
    let bytes = map::map_all(path).ok()?;
    let metadata = guarded(path, || ParquetMetaDataReader::new().parse_and_finish(&bytes)).ok()?;
    let constants = metadata.file_metadata().key_value_metadata()?;
    constants.iter().find(|pair| pair.key.strip_prefix(schema::PREFIX) == Some(schema::PLAN_ID))?.value.clone()
}

/// Runs the Parquet decoder. It panics on some damaged pages, which only a shard that a forged manifest vouches for can
/// have; nothing it was working on is used afterwards.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up on a damaged page".into())))
        .map_err(|reason| Error::Parquet { path: path.to_owned(), reason })
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
    let expected = schema::columns(plan);
    if footer.schema().fields() != expected.fields() {
        return Err(format!("columns are {}, the format has {}", footer.schema(), expected));
    }
    let rows = plan.units[unit].end - plan.units[unit].start;
    let per_block = plan.rows_per_block();
    if metadata.num_row_groups() as u64 != rows.div_ceil(per_block) {
        return Err(format!("{} blocks, {rows} rows make {}", metadata.num_row_groups(), rows.div_ceil(per_block)));
    }
    for (block, group) in metadata.row_groups().iter().enumerate() {
        let expected = rows_of_block(plan, unit, block as u64);
        if u64::try_from(group.num_rows()) != Ok(expected) {
            return Err(format!("block {block} has {} rows, {expected} belong there", group.num_rows()));
        }
        for column in group.columns() {
            let claimed = Limits::of(plan, expected).check(column.num_values(), column.uncompressed_size());
            claimed.map_err(|problem| format!("block {block}: column {} {problem}", column.column_path()))?;
        }
    }
    Ok(())
}

/// Rows that the plan puts into a block of `unit`; none where it has no such block.
pub(crate) fn rows_of_block(plan: &Plan, unit: usize, block: u64) -> u64 {
    let Unit { start, end, .. } = plan.units[unit];
    let per_block = plan.rows_per_block();
    per_block.min((end - start).saturating_sub(block * per_block))
}
