//! Columns of a shard's row groups, decoded by the Parquet crate.
//!
//! Every page version, encoding and compression that the Parquet crate decodes is read, with two exceptions: brotli and
//! the deprecated LZ4 framing, whose decoders cannot be limited. This module adds what the crate does not do:
//!
//! - No page takes more memory than the plan's rows may need ([`Limits`]), whatever its header claims
//!   ([`bounded_pages`]).
//! - Rows are read from any row on. With a page index only the pages that hold them are decoded, without one all pages of
//!   the column before them are too. Rows of a page that are not wanted are decoded and dropped: told to skip rows that a
//!   damaged page lacks, the crate would search for them without end.
//! - A panic of a decoder becomes an error. It can only happen with bytes whose hash matches the manifest, and nothing
//!   that the decoder worked on is used afterwards.

mod bounded_pages;
mod column_rows;
mod page_header;
#[cfg(test)]
mod tests;

pub(crate) use column_rows::ColumnRows;

use bounded_pages::BoundedPages;
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::index_reader::decode_offset_index;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Number of values that a page may have whatever the plan says: other writers limit pages by bytes, and put many short
/// rows into one.
const MIN_PAGE_VALUES: u64 = 1 << 22;
/// Size of the widest value of a list with its levels.
const BYTES_PER_VALUE: u64 = 16;
/// Size of the shortest entry of a page index: three numbers and an end marker.
const MIN_LOCATION_BYTES: u64 = 4;
/// Number of bytes that a page may have in addition to those of its values: the model of a packed shard is one value.
const SLACK: u64 = 64 << 20;

/// An error in the bytes of a column, without the column's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("is not there")]
    Missing,
    #[error("has pages outside its row group's bytes, or a page index before the last of them")]
    OutsideRange,
    #[error(
        "is compressed with {0}, whose decoders cannot be bounded: use zstd, snappy, gzip, LZ4_RAW or no compression"
    )]
    Compression(Compression),
    #[error("has a damaged page index: {0}")]
    PageIndex(String),
    #[error("has a page index that the pages contradict: rows of page {page} are not those it says")]
    OtherRows { page: usize },
    #[error("has {got} rows where {expected} are wanted")]
    Rows { expected: u64, got: u64 },
    #[error("has repetition levels that do not begin with a row")]
    Levels,
    #[error("cannot be decoded: {0}")]
    Parquet(#[from] ParquetError),
    #[error("cannot be decoded: a page is damaged")]
    Panic,
}

/// A column of a shard that cannot be decoded, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("row group {}: column {} {problem}", name.row_group, name.column)]
pub struct ColumnError {
    name: ColumnName,
    problem: ChunkError,
}

impl ColumnError {
    pub(crate) fn new(row_group: usize, path: &ColumnPath, problem: ChunkError) -> Self {
        let column = path.parts().first().cloned().unwrap_or_default();
        Self { name: ColumnName { row_group, column }, problem }
    }

    /// The error for a column that does not exist.
    pub(crate) fn missing(row_group: usize, column: &str) -> Self {
        Self { name: ColumnName { row_group, column: column.to_owned() }, problem: ChunkError::Missing }
    }
}

/// The name of a column in error messages.
#[derive(Clone, Debug)]
struct ColumnName {
    row_group: usize,
    column: String,
}

/// Upper bounds of one page's contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    values: u64,
    bytes: u64,
}

impl Limits {
    /// For lists of which a row has so many values at most, and one of our row groups so many rows.
    pub(crate) fn new(values_per_row: u64, rows_per_group: u64) -> Self {
        let values = rows_per_group.saturating_mul(values_per_row).max(MIN_PAGE_VALUES);
        Self { values, bytes: BYTES_PER_VALUE.saturating_mul(values).saturating_add(SLACK) }
    }
}

/// Location of a row group's column in its shard: the part of the metadata that is kept while the shard is open.
pub(crate) struct ColumnChunk {
    /// Place of the row group's bytes in the file.
    base: i64,
    /// Place of the pages in the row group's bytes.
    pages: Range<usize>,
    has_dictionary: bool,
    /// Place of the page index in the bytes behind the row groups.
    page_index: Option<Range<usize>>,
    compression: Compression,
}

impl ColumnChunk {
    /// Reads the location from the footer of a shard: pages lie within the row group's bytes, at `group` in the file, and
    /// the page index behind all row groups, at `rest`.
    pub(crate) fn of(
        column: &ColumnChunkMetaData,
        group: Range<usize>,
        rest: Range<usize>,
    ) -> Result<Self, ChunkError> {
        let range = |start: i64, length: i64, within: &Range<usize>| {
            let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
            let (start, end) = (start.checked_sub(within.start)?, start.checked_add(length)?);
            (end <= within.end).then(|| start..end - within.start)
        };
        let dictionary = column.dictionary_page_offset();
        let pages = range(dictionary.unwrap_or(column.data_page_offset()), column.compressed_size(), &group);
        let page_index = match column.offset_index_offset().zip(column.offset_index_length()) {
            Some((start, length)) => Some(range(start, length.into(), &rest).ok_or(ChunkError::OutsideRange)?),
            None => None,
        };
        match column.compression() {
            refused @ (Compression::BROTLI(_) | Compression::LZ4 | Compression::LZO) => {
                Err(ChunkError::Compression(refused))
            }
            compression => Ok(Self {
                base: group.start as i64,
                pages: pages.ok_or(ChunkError::OutsideRange)?,
                has_dictionary: dictionary.is_some(),
                page_index,
                compression,
            }),
        }
    }

    /// Locations of the pages within the row group's bytes in the order of their rows, from the page index of a row group
    /// with `rows` rows; `None` if there is no page index. `bytes` are those behind the row groups.
    fn locations(&self, bytes: &[u8], rows: u64) -> Result<Option<Vec<PageLocation>>, ChunkError> {
        let Some(index) = &self.page_index else { return Ok(None) };
        let claimed = page_header::pages_of_index(&bytes[index.clone()]);
        let claimed = claimed.ok_or_else(|| ChunkError::PageIndex("it does not begin with a list of pages".into()))?;
        if claimed.saturating_mul(MIN_LOCATION_BYTES) > index.len() as u64 {
            return Err(ChunkError::PageIndex(format!("{} bytes claim to list {claimed} pages", index.len())));
        }
        let index = catch_panics(|| decode_offset_index(&bytes[index.clone()]));
        let mut locations = index.map_err(|error| ChunkError::PageIndex(error.to_string()))?.page_locations().clone();
        locations.iter_mut().for_each(|page| page.offset = page.offset.saturating_sub(self.base));
        let firsts = || locations.iter().map(|page| page.first_row_index);
        let is_in_order = firsts().next() == Some(0) && firsts().is_sorted_by(|a, b| a < b);
        if !is_in_order || firsts().any(|first| u64::try_from(first).is_ok_and(|first| first >= rows)) {
            return Err(ChunkError::PageIndex("its rows are not in order".into()));
        }
        let mut end = self.pages.start as i64;
        for page in &locations {
            let is_behind = page.offset >= end && page.compressed_page_size >= 0;
            end = page.offset.saturating_add(page.compressed_page_size.into());
            if !is_behind || end > self.pages.end as i64 {
                return Err(ChunkError::PageIndex("a page lies outside the column's bytes".into()));
            }
        }
        Ok(Some(locations))
    }
}

/// A column of one row group to be read.
pub(crate) struct ColumnToRead<'a> {
    /// The row group's bytes.
    pub(crate) bytes: &'a Bytes,
    /// The bytes behind the row groups.
    pub(crate) rest: &'a Bytes,
    pub(crate) descriptor: ColumnDescPtr,
    pub(crate) chunk: &'a ColumnChunk,
    pub(crate) limits: Limits,
    /// Number of the row group; `group_rows` is its number of rows.
    pub(crate) row_group: usize,
    pub(crate) group_rows: u64,
    /// The requested rows, counted within the row group.
    pub(crate) rows: Range<u64>,
}

impl ColumnToRead<'_> {
    fn name(&self) -> ColumnName {
        let column = self.descriptor.path().parts().first().cloned().unwrap_or_default();
        ColumnName { row_group: self.row_group, column }
    }

    /// Opens the column. Its physical type must be that of `T`, as the check of the footer's schema guarantees.
    pub(crate) fn open<T: DataType>(self) -> Result<ColumnRows<T>, ColumnError> {
        let error = |problem| ColumnError { name: self.name(), problem };
        let pages = BoundedPages::new(&self).map_err(error)?;
        let index = (pages.first_rows(), pages.handed_out());
        let reader = ColumnReaderImpl::new(self.descriptor.clone(), Box::new(pages));
        ColumnRows::new(reader, &self, index).map_err(error)
    }
}

/// Runs a decoder of the Parquet crate, which may panic on damaged bytes.
fn catch_panics<V>(decode: impl FnOnce() -> Result<V, ParquetError>) -> Result<V, ChunkError> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(ChunkError::Parquet),
        Err(_) => Err(ChunkError::Panic),
    }
}
