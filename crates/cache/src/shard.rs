//! An open shard, whose hash, footer and shape are checked before any of its rows.

mod stored;

pub(crate) use stored::Proof;

use crate::codec::{self, Model, RowColumns};
use crate::column_chunk::{ColumnChunk, ColumnError, ColumnRows, ColumnToRead, Limits};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::plan::{Layout, Plan};
use crate::ranges::catch_panics;
use crate::row_group::CachedSample;
use crate::row_problem::RowProblem;
use crate::schema;
use crate::shard_part::ShardPart;
use crate::store::Store;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use logitcask_core::{ExtraColumn, Fingerprint};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::data_type::ByteArrayType;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, RowGroupMetaData};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use stored::{ShardBytes, StoredBytes};
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
    #[error("{groups} row groups, the commit has hashes of {ranges}")]
    Ranges { ranges: usize, groups: usize },
}

/// A shard whose footer was verified. Each row group is verified at its first use.
pub(crate) struct Shard {
    path: PathBuf,
    bytes: ShardBytes,
    /// The bytes behind the row groups.
    rest: Bytes,
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

impl Shard {
    /// Opens the shard of `unit` and checks everything but its rows; `id` is the plan's. Ranges with a `proof` are not
    /// hashed again if the file is unchanged.
    pub(crate) fn open(
        store: &Arc<dyn Store>,
        plan: (&Plan, Fingerprint),
        unit: usize,
        commit: &Commit,
        proof: Option<Arc<Proof>>,
    ) -> Result<Self> {
        let start = Instant::now();
        let bytes = StoredBytes::open(store, &commit.shard, &commit.ranges, proof)?;
        let shard = Self::of(store.path(&commit.shard), ShardBytes::Stored(bytes), plan, unit)?;
        let seconds = start.elapsed().as_secs_f64();
        debug!(path = %shard.path.display(), bytes = shard.len(), seconds, "shard opened");
        Ok(shard)
    }

    /// [`Self::open`] from `bytes` that were found to have the commit's hashes, if there are some.
    pub(crate) fn of_verified(
        store: &Arc<dyn Store>,
        plan: (&Plan, Fingerprint),
        unit: usize,
        commit: &Commit,
        bytes: Option<Bytes>,
    ) -> Result<Self> {
        let Some(bytes) = bytes else { return Self::open(store, plan, unit, commit, None) };
        let bytes = StoredBytes::verified(store, &commit.shard, &commit.ranges, bytes);
        Self::of(store.path(&commit.shard), ShardBytes::Stored(bytes), plan, unit)
    }

    /// Opens the shard of `unit` from `bytes`, whose hash counts as verified.
    pub(crate) fn of_bytes(path: PathBuf, bytes: Bytes, plan: (&Plan, Fingerprint), unit: usize) -> Result<Self> {
        Self::of(path, ShardBytes::Whole(bytes), plan, unit)
    }

    fn of(path: PathBuf, bytes: ShardBytes, (plan, id): (&Plan, Fingerprint), unit: usize) -> Result<Self> {
        let options =
            ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(PageIndexPolicy::Skip);
        // The parser sees the verified bytes behind the row groups and no others.
        let rest = bytes.rest()?.clone();
        let footer = catch_panics(&path, || ArrowReaderMetadata::load(&rest, options))?;
        let ranges = bytes.row_groups();
        check_footer(&footer, (plan, id), unit, ranges).map_err(|problem| Error::malformed(&path, problem))?;
        let row_groups = row_groups(&footer, &bytes).map_err(|problem| Error::malformed(&path, problem))?;
        let columns = footer.metadata().file_metadata().schema_descr_ptr();
        let mut shard = Self { path, bytes, rest, columns, row_groups, start: plan.unit(unit).start, model: None };
        if plan.layout == Layout::Packed {
            let group = shard.group_bytes(0)?;
            let model = shard.read_model(plan, group).map_err(|problem| Error::malformed(&shard.path, problem))?;
            shard.model = Some(model);
        }
        Ok(shard)
    }

    /// The verified bytes of a row group.
    fn group_bytes(&self, number: usize) -> Result<&Bytes> {
        let rows = &self.row_groups[number].rows;
        let samples = Some(self.start + rows.start..self.start + rows.end);
        self.bytes.get(number, &|| ShardPart::RowGroup { number, samples: samples.clone() })
    }

    /// Verifies every row group.
    pub(crate) fn verify(&self) -> Result<()> {
        (0..self.row_groups.len()).try_for_each(|number| self.group_bytes(number).map(|_| ()))
    }

    /// Which ranges of the shard were verified.
    pub(crate) fn proof(&self) -> Option<Arc<Proof>> {
        self.bytes.proof()
    }

    /// Rows of each row group, as the footer counts them.
    pub(crate) fn rows_of_groups(&self) -> impl Iterator<Item = Range<u64>> {
        self.row_groups.iter().map(|group| group.rows.clone())
    }

    /// Reads the model of a packed shard from its first row.
    fn read_model(&self, plan: &Plan, group: &Bytes) -> Result<Model, RowProblem> {
        let column = self.column(plan, schema::PACKED_MODEL, (0, group), 0..1)?;
        let mut models: ColumnRows<ByteArrayType> = column.open()?;
        Ok(codec::model_of(plan, models.next_value()?.data())?)
    }

    /// Whether the bytes that were used are copies in memory.
    pub(crate) fn takes_memory(&self) -> bool {
        self.bytes.takes_memory()
    }

    /// Size of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// [`Self::read_with`] all extra columns of the plan.
    pub(crate) fn read(&self, plan: &Plan, block: usize, rows: Range<u64>) -> Result<Vec<CachedSample>> {
        self.read_with(plan, &plan.extras, block, rows)
    }

    /// Decodes and checks rows of one of the plan's blocks, with some of its extra columns; `rows` is relative to the
    /// block and must lie within it. If the shard has a page index, only the pages that contain them and the dictionaries
    /// of their columns are read.
    pub(crate) fn read_with(
        &self,
        plan: &Plan,
        extras: &[ExtraColumn],
        block: usize,
        rows: Range<u64>,
    ) -> Result<Vec<CachedSample>> {
        self.bytes.check_whole()?;
        let first = block as u64 * plan.rows_per_group();
        let wanted = first + rows.start..first + rows.end;
        let mut samples = Vec::with_capacity((rows.end - rows.start) as usize);
        for (number, group) in self.row_groups.iter().enumerate() {
            let rows = wanted.start.max(group.rows.start)..wanted.end.min(group.rows.end);
            if !rows.is_empty() {
                self.read_group((plan, extras), number, rows, &mut samples)?;
            }
        }
        Ok(samples)
    }

    /// Appends rows of the shard, all of which must lie in one row group.
    fn read_group(
        &self,
        (plan, extras): (&Plan, &[ExtraColumn]),
        group: usize,
        rows: Range<u64>,
        out: &mut Vec<CachedSample>,
    ) -> Result<()> {
        let start = self.row_groups[group].rows.start;
        let within = rows.start - start..rows.end - start;
        let of = (group, self.group_bytes(group)?);
        let find = |name: &str| self.column(plan, name, of, within.clone());
        let columns = RowColumns::of(plan, extras, self.model.as_ref(), &find);
        let mut columns = columns.map_err(|problem| Error::malformed(&self.path, problem))?;
        for row in rows {
            let sample = self.start + row;
            let error = |problem| Error::Row { path: self.path.clone(), row, sample, problem };
            out.push(validate_row((plan, extras), &mut columns, sample).map_err(error)?);
        }
        Ok(())
    }

    /// Rows of a column, counted within the row group.
    fn column<'a>(
        &'a self,
        plan: &Plan,
        name: &str,
        (group, bytes): (usize, &'a Bytes),
        rows: Range<u64>,
    ) -> Result<ColumnToRead<'a>, ColumnError> {
        let leaves = self.columns.columns();
        let is_it = |leaf: &ColumnDescPtr| leaf.path().parts().first().is_some_and(|first| first == name);
        let column = leaves.iter().position(is_it).ok_or_else(|| ColumnError::missing(group, name))?;
        let FileRowGroup { rows: all, columns } = &self.row_groups[group];
        Ok(ColumnToRead {
            bytes,
            rest: &self.rest,
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
fn row_groups(footer: &ArrowReaderMetadata, bytes: &ShardBytes) -> Result<Vec<FileRowGroup>, ColumnError> {
    let mut end = 0;
    let groups = footer.metadata().row_groups();
    let rest = bytes.place(groups.len());
    let group = |(number, group): (usize, &RowGroupMetaData)| {
        let place = bytes.place(number);
        let chunk = |column: &ColumnChunkMetaData| {
            let chunk = ColumnChunk::of(column, place.clone(), rest.clone());
            chunk.map_err(|problem| ColumnError::new(number, column.column_path(), problem))
        };
        let columns = group.columns().iter().map(chunk).collect::<Result<_, _>>()?;
        let start = end;
        end += group.num_rows() as u64;
        Ok(FileRowGroup { rows: start..end, columns })
    };
    groups.iter().enumerate().map(group).collect()
}

/// Returns the next row of `columns` if it is valid and belongs to the sample `expected`.
fn validate_row(
    (plan, extras): (&Plan, &[ExtraColumn]),
    columns: &mut RowColumns<'_>,
    expected: u64,
) -> Result<CachedSample, RowProblem> {
    let (sample, rows, stored) = columns.next()?;
    if sample.id.0 != expected {
        return Err(RowProblem::OtherSample { got: sample.id.0 });
    }
    let computed = sample.input_hash();
    if computed != stored {
        return Err(RowProblem::OtherInput { computed, stored });
    }
    codec::check_row(plan, extras, &sample, &rows)?;
    Ok(CachedSample { sample, rows })
}

/// Checks that constants, columns and the number of rows agree with the plan.
fn check_footer(
    footer: &ArrowReaderMetadata,
    (plan, id): (&Plan, Fingerprint),
    unit: usize,
    ranges: Option<usize>,
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
    let rows = plan.unit(unit).samples();
    let counts = || metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
    let total = counts().try_fold(0u64, |sum, count| sum.checked_add(count?));
    if counts().any(|count| count == Some(0)) || total != Some(rows) {
        let got = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        return Err(FooterError::Rows { got, expected: rows });
    }
    let groups = metadata.num_row_groups();
    if let Some(ranges) = ranges.filter(|ranges| *ranges != groups) {
        return Err(FooterError::Ranges { ranges, groups });
    }
    Ok(())
}

/// What a page of the plan's longest rows may hold.
fn limits(plan: &Plan) -> Limits {
    let values_per_position = u64::from(plan.max_kept()).max(plan.keep.atoms() as u64);
    let values = u64::from(plan.max_length).saturating_mul(values_per_position);
    let extras = plan.extras.iter().map(|extra| extra.len(plan.max_length as usize) as u64);
    Limits::new(extras.fold(values, u64::max), plan.rows_per_group())
}
