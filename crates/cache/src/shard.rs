//! An open shard, whose hash, footer and shape are checked before any of its rows.

use crate::codec::{self, Model, RowColumns};
use crate::column_chunk::{ColumnChunk, ColumnError, ColumnRows, ColumnToRead, Limits};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::plan::{Layout, Plan};
use crate::row_group::CachedSample;
use crate::row_problem::RowProblem;
use crate::schema;
use crate::storage::{self, Storage};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::data_type::ByteArrayType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataReader, RowGroupMetaData};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};
use tracing::debug;

/// An error for a footer that does not match its plan.
#[derive(Debug, thiserror::Error)]
enum FooterError {
    #[error("footer has {key} = {got}, the plan says {expected}")]
    Constant { key: String, got: String, expected: String },
    #[error("columns are {got}, the format has {expected}")]
    Columns { got: SchemaRef, expected: SchemaRef },
    #[error("row groups of {got:?} rows, {expected} rows belong in the shard")]
    Rows { got: Vec<i64>, expected: u64 },
}

/// A shard whose bytes have the manifest's hash.
pub(crate) struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// Whether the bytes are a memory map of the file, which another process might truncate.
    is_mapped: bool,
    columns: SchemaDescPtr,
    row_groups: Vec<FileRowGroup>,
    start: u64,
    /// The model that decodes packed rows.
    model: Option<Model>,
}

/// A Parquet row group of the file: in shards of our writer it has as many rows as the plan says, in others any number.
struct FileRowGroup {
    /// Range of its rows in the shard.
    rows: Range<u64>,
    columns: Vec<ColumnChunk>,
}

/// Proof that the shard's bytes had the manifest's hash when its file had this length and modification time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedAt {
    length: u64,
    modified: SystemTime,
}

impl Shard {
    /// Opens the shard of `unit` and checks everything but its rows; `id` is the plan's. The bytes are not hashed again
    /// if the file is unchanged since `proof`.
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

    /// Opens the shard of `unit` from `bytes`, whose hash counts as verified.
    pub(crate) fn of_bytes(path: PathBuf, bytes: Bytes, (plan, id): (&Plan, Fingerprint), unit: usize) -> Result<Self> {
        let options =
            ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(PageIndexPolicy::Skip);
        let footer = catch_panics(&path, || ArrowReaderMetadata::load(&bytes, options))?;
        check_footer(&footer, (plan, id), unit).map_err(|problem| Error::malformed(&path, problem))?;
        let row_groups = row_groups(&footer, bytes.len()).map_err(|problem| Error::malformed(&path, problem))?;
        let columns = footer.metadata().file_metadata().schema_descr_ptr();
        let start = plan.units[unit].start;
        let mut shard = Self { path, bytes, is_mapped: false, columns, row_groups, start, model: None };
        if plan.layout == Layout::Packed {
            let model = shard.read_model(plan).map_err(|problem| Error::malformed(&shard.path, problem))?;
            shard.model = Some(model);
        }
        Ok(shard)
    }

    /// Reads the model of a packed shard from its first row.
    fn read_model(&self, plan: &Plan) -> Result<Model, RowProblem> {
        let column = self.column(plan, schema::PACKED_MODEL, 0, 0..1)?;
        let mut models: ColumnRows<ByteArrayType> = column.open()?;
        Ok(codec::model_of(plan, models.next_value()?.data())?)
    }

    /// Size of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Decodes and checks rows of one of the plan's blocks; `rows` is relative to the block and must lie within it. If
    /// the shard has a page index, only the pages that contain them and the dictionaries of their columns are read.
    pub(crate) fn read(&self, plan: &Plan, block: usize, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        if self.is_mapped {
            storage::check_whole(&self.path, self.bytes.len() as u64)?;
        }
        let first = block as u64 * plan.rows_per_group();
        let wanted = first + rows.start..first + rows.end;
        let mut samples = Vec::with_capacity((rows.end - rows.start) as usize);
        for (number, group) in self.row_groups.iter().enumerate() {
            let rows = wanted.start.max(group.rows.start)..wanted.end.min(group.rows.end);
            if !rows.is_empty() {
                self.read_group(plan, number, rows, &mut samples)?;
            }
        }
        Ok(samples)
    }

    /// Appends rows of the shard, all of which must lie in one row group.
    fn read_group(&self, plan: &Plan, group: usize, rows: Range<u64>, out: &mut Vec<CachedSample>) -> Result<()> {
        let start = self.row_groups[group].rows.start;
        let within = rows.start - start..rows.end - start;
        let columns = RowColumns::of(plan, self.model.as_ref(), &|name| self.column(plan, name, group, within.clone()));
        let mut columns = columns.map_err(|problem| Error::malformed(&self.path, problem))?;
        for row in rows {
            let sample = self.start + row;
            let error = |problem| Error::Row { path: self.path.clone(), row, sample, problem };
            out.push(validate_row(plan, &mut columns, sample).map_err(error)?);
        }
        Ok(())
    }

    /// Rows of a column, counted within the row group.
    fn column(&self, plan: &Plan, name: &str, group: usize, rows: Range<u64>) -> Result<ColumnToRead<'_>, ColumnError> {
        let leaves = self.columns.columns();
        let is_it = |leaf: &ColumnDescPtr| leaf.path().parts().first().is_some_and(|first| first == name);
        let column = leaves.iter().position(is_it).ok_or_else(|| ColumnError::missing(group, name))?;
        let FileRowGroup { rows: all, columns } = &self.row_groups[group];
        Ok(ColumnToRead {
            bytes: &self.bytes,
            descriptor: leaves[column].clone(),
            chunk: &columns[column],
            limits: limits(plan),
            row_group: group,
            group_rows: all.end - all.start,
            rows,
        })
    }
}

/// Locations of the columns of each row group.
fn row_groups(footer: &ArrowReaderMetadata, bytes: usize) -> Result<Vec<FileRowGroup>, ColumnError> {
    let mut end = 0;
    let group = |(number, group): (usize, &RowGroupMetaData)| {
        let chunk = |column: &ColumnChunkMetaData| {
            ColumnChunk::of(column, bytes).map_err(|problem| ColumnError::new(number, column.column_path(), problem))
        };
        let columns = group.columns().iter().map(chunk).collect::<Result<_, _>>()?;
        let start = end;
        end += group.num_rows() as u64;
        Ok(FileRowGroup { rows: start..end, columns })
    };
    footer.metadata().row_groups().iter().enumerate().map(group).collect()
}

/// The id of the plan from which the shard at `path` was made, if its footer can be read.
pub(crate) fn plan_id(path: &Path) -> Option<String> {
    let bytes = storage::read_all(path).ok()?;
    let metadata = catch_panics(path, || ParquetMetaDataReader::new().parse_and_finish(&bytes)).ok()?;
    let constants = metadata.file_metadata().key_value_metadata()?;
    constants.iter().find(|pair| pair.key.strip_prefix(schema::PREFIX) == Some(schema::PLAN_ID))?.value.clone()
}

/// Runs the parser of Parquet footers. It may panic on a damaged footer, which only a shard with a forged manifest can
/// have; nothing it was working on is used afterwards.
fn catch_panics<T>(path: &Path, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ParquetError::General("the reader gave up on a damaged footer".into())))
        .map_err(|reason| Error::Parquet { path: path.to_owned(), reason })
}

/// Returns the next row of `columns` if it is valid and belongs to the sample `expected`.
fn validate_row(plan: &Plan, columns: &mut RowColumns<'_>, expected: u64) -> Result<CachedSample, RowProblem> {
    let (sample, rows, stored) = columns.next()?;
    if sample.id.0 != expected {
        return Err(RowProblem::OtherSample { got: sample.id.0 });
    }
    let computed = sample.input_hash();
    if computed != stored {
        return Err(RowProblem::OtherInput { computed, stored });
    }
    codec::check_row(plan, &sample, &rows)?;
    Ok(CachedSample { sample, rows })
}

/// Checks that constants, columns and the number of rows agree with the plan.
fn check_footer(
    footer: &ArrowReaderMetadata,
    (plan, id): (&Plan, Fingerprint),
    unit: usize,
) -> Result<(), FooterError> {
    let metadata = footer.metadata();
    let stored = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    for (key, value) in schema::constants(plan, id, unit) {
        let got = stored.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
        if !got.is_some_and(|got| schema::agrees(&key, got, &value)) {
            let got = got.unwrap_or("nothing").to_owned();
            return Err(FooterError::Constant { key, got, expected: value });
        }
    }
    let expected = schema::columns(plan);
    if footer.schema().fields() != expected.fields() {
        return Err(FooterError::Columns { got: footer.schema().clone(), expected });
    }
    let rows = plan.units[unit].end - plan.units[unit].start;
    let counts = || metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
    let total = counts().try_fold(0u64, |sum, count| sum.checked_add(count?));
    if counts().any(|count| count == Some(0)) || total != Some(rows) {
        let got = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        return Err(FooterError::Rows { got, expected: rows });
    }
    Ok(())
}

/// What a page of the plan's longest rows may hold.
fn limits(plan: &Plan) -> Limits {
    let values_per_position = u64::from(plan.max_kept()).max(plan.keep.atoms() as u64);
    Limits::new(u64::from(plan.max_length).saturating_mul(values_per_position), plan.rows_per_group())
}
