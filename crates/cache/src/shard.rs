//! One shard, opened and believed: its hash, its footer and its shape are checked before any of its rows.

use crate::codec::{self, Columns, Model};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::pages::{Chunk, Limits, Pages, Plain};
use crate::plan::{Layout, Plan};
use crate::row_group::{CachedSample, rows_of_group};
use crate::schema;
use crate::storage::{self, Storage};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataReader, RowGroupMetaData};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};
use tracing::debug;

/// A shard whose bytes are the manifest's.
pub(crate) struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// The bytes are a map of the file, which somebody might cut.
    is_mapped: bool,
    columns: SchemaRef,
    blocks: Vec<RowGroup>,
    start: u64,
    /// What decodes packed rows.
    model: Option<Model>,
}

/// Rows that are coded together.
struct RowGroup {
    rows: u64,
    columns: Vec<Chunk>,
}

/// That the bytes of a shard were the manifest's when its file was as long and as old as this says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedAt {
    length: u64,
    modified: SystemTime,
}

impl Shard {
    /// Opens the shard of `unit` and checks everything but its rows; `id` is the plan's. The bytes of a file that is still what `proof` was
    /// given for are not hashed again.
    pub(crate) fn open(
        folder: &Path,
        (plan, id): (&Plan, Fingerprint),
        unit: usize,
        commit: &Commit,
        (storage, proof): (Storage, &mut Option<VerifiedAt>),
    ) -> Result<Self> {
        let (path, start) = (folder.join(&commit.shard), Instant::now());
        let (bytes, metadata) = storage.bytes(&path, commit.bytes)?;
        let now = metadata.modified().ok().map(|modified| VerifiedAt { length: metadata.len(), modified });
        let is_hashed = now.is_none() || *proof != now;
        if is_hashed {
            let got = Fingerprint::of(&bytes);
            if got != commit.blake3 {
                return Err(Error::Checksum { path, expected: commit.blake3, got });
            }
            *proof = now;
        }
        let seconds = start.elapsed().as_secs_f64();
        debug!(path = %path.display(), bytes = bytes.len(), hashed = is_hashed, seconds, "shard opened");
        Ok(Self { is_mapped: storage.is_mapped(), ..Self::of_bytes(path, bytes, (plan, id), unit)? })
    }

    /// The shard of `unit` in `bytes`, whoever vouches for them.
    pub(crate) fn of_bytes(path: PathBuf, bytes: Bytes, (plan, id): (&Plan, Fingerprint), unit: usize) -> Result<Self> {
        let options =
            ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(PageIndexPolicy::Skip);
        let footer = catch_panics(&path, || ArrowReaderMetadata::load(&bytes, options))?;
        check_footer(&footer, (plan, id), unit).map_err(|problem| Error::malformed(&path, problem))?;
        let blocks = blocks(&footer, bytes.len()).map_err(|problem| Error::malformed(&path, problem))?;
        let columns = footer.schema().clone();
        let start = plan.units[unit].start;
        let mut shard = Self { path, bytes, is_mapped: false, columns, blocks, start, model: None };
        if plan.layout == Layout::Packed {
            let model = shard.read_model(plan).map_err(|problem| Error::malformed(&shard.path, problem))?;
            shard.model = Some(model);
        }
        Ok(shard)
    }

    /// What decodes a packed shard, which its first row carries.
    fn read_model(&self, plan: &Plan) -> Result<Model, String> {
        let pages = self.pages(plan, schema::PACKED_MODEL, 0, 0)?;
        codec::model_of(plan, Plain::of(pages, None)?.next()?)
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Decodes and checks rows of a block; `rows` counts within the block and must lie in it. Only the pages that hold them
    /// are looked at, and the dictionary of their column.
    pub(crate) fn read(&self, plan: &Plan, block: usize, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        if self.is_mapped {
            storage::check_whole(&self.path, self.bytes.len() as u64)?;
        }
        let columns = Columns::of(plan, self.model.as_ref(), &|name| self.pages(plan, name, block, rows.start));
        let mut columns = columns.map_err(|problem| Error::malformed(&self.path, problem))?;
        let first = block as u64 * plan.rows_per_group();
        let one = |row| {
            let (row, sample) = (first + row, self.start + first + row);
            let error = |problem| Error::Row { path: self.path.clone(), row, sample, problem };
            validate_row(plan, &mut columns, sample).map_err(error)
        };
        rows.map(one).collect()
    }

    /// The pages of a column from the one that holds `row` of the block on.
    fn pages(&self, plan: &Plan, name: &str, block: usize, row: u64) -> Result<Pages<'_>, String> {
        let column = self.columns.index_of(name).map_err(|_| format!("has no column {name}"))?;
        let RowGroup { rows, columns } = &self.blocks[block];
        let (name, limits) = (format!("block {block}: column {name}"), Limits::of(plan, *rows));
        Pages::of(name, &self.bytes, &columns[column], limits, *rows, row)
    }
}

/// Where the columns of each block lie.
fn blocks(footer: &ArrowReaderMetadata, bytes: usize) -> Result<Vec<RowGroup>, String> {
    let block = |(number, group): (usize, &RowGroupMetaData)| {
        let chunk = |column: &ColumnChunkMetaData| {
            let name = || column.column_path().parts().first().cloned().unwrap_or_default();
            Chunk::of(column, bytes).map_err(|problem| format!("block {number}: column {} {problem}", name()))
        };
        let columns = group.columns().iter().map(chunk).collect::<Result<_, _>>()?;
        Ok(RowGroup { rows: group.num_rows() as u64, columns })
    };
    footer.metadata().row_groups().iter().enumerate().map(block).collect()
}

/// The id of the plan that the shard at `path` was made from, where its footer can be read.
pub(crate) fn plan_id(path: &Path) -> Option<String> {
    let bytes = storage::read_all(path).ok()?;
    let metadata = catch_panics(path, || ParquetMetaDataReader::new().parse_and_finish(&bytes)).ok()?;
    let constants = metadata.file_metadata().key_value_metadata()?;
    constants.iter().find(|pair| pair.key.strip_prefix(schema::PREFIX) == Some(schema::PLAN_ID))?.value.clone()
}

/// Runs the reader of Parquet's footers. It may panic on damaged ones, which only a shard that a forged manifest vouches
/// for can have; nothing it was working on is used afterwards.
fn catch_panics<T>(path: &Path, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the reader gave up on a damaged footer".into())))
        .map_err(|reason| Error::Parquet { path: path.to_owned(), reason })
}

/// The next row of `columns`, if it is what a teacher said about the sample `expected`.
fn validate_row(plan: &Plan, columns: &mut Columns<'_>, expected: u64) -> Result<CachedSample, String> {
    let (sample, rows, stored) = columns.next()?;
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
fn check_footer(footer: &ArrowReaderMetadata, (plan, id): (&Plan, Fingerprint), unit: usize) -> Result<(), String> {
    let metadata = footer.metadata();
    let stored = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    for (key, value) in schema::constants(plan, id, unit) {
        let got = stored.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
        if !got.is_some_and(|got| schema::agrees(&key, got, &value)) {
            return Err(format!("footer has {key} = {}, the plan says {value}", got.unwrap_or("nothing")));
        }
    }
    let expected = schema::columns(plan);
    if footer.schema().fields() != expected.fields() {
        return Err(format!("columns are {}, the format has {}", footer.schema(), expected));
    }
    let rows = plan.units[unit].end - plan.units[unit].start;
    let per_block = plan.rows_per_group();
    if metadata.num_row_groups() as u64 != rows.div_ceil(per_block) {
        return Err(format!("{} blocks, {rows} rows make {}", metadata.num_row_groups(), rows.div_ceil(per_block)));
    }
    for (block, group) in metadata.row_groups().iter().enumerate() {
        let expected = rows_of_group(plan, unit, block as u64);
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
