//! The pages of a column, from a shard's bytes to numbers.
//!
//! A decoder of its own, since reading is what a cache is for: the few encodings that shards are written in go straight
//! to the vectors that a row is made of, with no levels, arrays or copies between. It trusts nothing: every header is
//! held against what the plan's longest rows would take before memory is taken for its page, and a page that does not
//! hold what its index says is refused. Only headers as writers write them are understood.

mod lists;
mod plain;
mod runs;
#[cfg(test)]
mod tests;
mod thrift;

pub(crate) use lists::Lists;
pub(crate) use plain::Plain;

use crate::plan::Plan;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use std::cell::RefCell;
use std::ops::Range;
use thrift::{Location, PageHeader};
use zstd::bulk::Decompressor;

/// A model needs a few bytes for each class that occurs and some for its statistics; more is not ours.
const SLACK: u128 = 64 << 20;
/// Bytes of the widest number in a list.
const MAX_VALUE_BYTES: u128 = 8;
/// Parquet's numbers of the encodings that are read: what they unfold to is bounded by a page's bytes and count.
const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE: i32 = 3;
const RLE_DICTIONARY: i32 = 8;
const BYTE_STREAM_SPLIT: i32 = 9;
/// And of the kinds of pages.
const DATA: i32 = 0;
const DICTIONARY: i32 = 2;

/// What one column of a block may hold.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) values: u128,
    pub(crate) bytes: u128,
}

impl Limits {
    /// For a block of `rows`.
    pub(crate) fn of(plan: &Plan, rows: u64) -> Self {
        let per_position = u128::from(plan.max_kept()).max(plan.keep.atoms() as u128);
        let values = u128::from(rows) * u128::from(plan.max_length) * per_position;
        // What is unfolded beside the values: levels, and lengths of binary values.
        Self { values, bytes: 2 * MAX_VALUE_BYTES * values + SLACK }
    }

    /// Refuses a column or page that claims more.
    pub(crate) fn check(&self, values: i64, bytes: i64) -> Result<(), String> {
        if !u128::try_from(values).is_ok_and(|values| values <= self.values) {
            return Err(format!("claims {values} values, {} are possible", self.values));
        }
        match u128::try_from(bytes).is_ok_and(|bytes| bytes <= self.bytes) {
            true => Ok(()),
            false => Err(format!("claims to unfold to {bytes} bytes, {} are possible", self.bytes)),
        }
    }
}

/// Where a column of a block and the index of its pages lie in a shard.
pub(crate) struct Chunk {
    pages: Range<usize>,
    index: Range<usize>,
    is_compressed: bool,
}

impl Chunk {
    /// As the footer has it; `Err` says what is missing, or outside the `bytes` of the shard.
    pub(crate) fn of(column: &ColumnChunkMetaData, bytes: usize) -> Result<Self, String> {
        let range = |start: i64, length: i64| {
            let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
            Some(start..start.checked_add(length)?).filter(|range| range.end <= bytes)
        };
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let index = column.offset_index_offset().zip(column.offset_index_length());
        let (offset, length) = index.ok_or("has no page index")?;
        let is_compressed = match column.compression() {
            Compression::ZSTD(_) => true,
            Compression::UNCOMPRESSED => false,
            other => return Err(format!("is compressed with {other}, shards with zstd")),
        };
        Ok(Self {
            pages: range(start, column.compressed_size()).ok_or("has pages outside the file")?,
            index: range(offset, length.into()).ok_or("has its page index outside the file")?,
            is_compressed,
        })
    }
}

/// The pages of a chunk, one after the other.
pub(crate) struct Pages<'a> {
    /// Of the chunk.
    name: String,
    bytes: &'a [u8],
    limits: Limits,
    is_compressed: bool,
    /// Of the dictionary, if there is one.
    first: Range<usize>,
    index: Vec<Location>,
    /// Rows of the block.
    rows: u64,
    /// The next page to be unfolded.
    next: usize,
    /// Rows before the wanted one in the first page to be unfolded.
    skipped: usize,
    /// The page itself: a part of the shard, or `unfolded`.
    stored: Option<Range<usize>>,
    unfolded: Vec<u8>,
}

impl<'a> Pages<'a> {
    /// The pages of a block of `rows` from the one that holds `row` on. What is wrong with them begins with `name`.
    pub(crate) fn of(
        name: String,
        bytes: &'a [u8],
        chunk: &Chunk,
        limits: Limits,
        rows: u64,
        row: u64,
    ) -> Result<Self, String> {
        let index = index_of(bytes, chunk, rows).map_err(|problem| format!("{name} {problem}"))?;
        let first = chunk.pages.start..index.first().map_or(chunk.pages.start, |page| page.offset as usize);
        let next = index.partition_point(|page| page.first_row <= row) - 1;
        let skipped = (row - index[next].first_row) as usize;
        let (is_compressed, stored, unfolded) = (chunk.is_compressed, None, Vec::new());
        Ok(Self { name, bytes, limits, is_compressed, first, index, rows, next, skipped, stored, unfolded })
    }

    fn named(&self, problem: &str) -> String {
        format!("{} {problem}", self.name)
    }

    /// Row of the block that the next page begins with.
    fn next_row(&self) -> u64 {
        self.index.get(self.next).map_or(self.rows, |page| page.first_row)
    }

    /// Unfolds the next page, which [`Self::page`] is then; its header and how many rows it has.
    fn advance(&mut self) -> Result<(PageHeader, usize), String> {
        let page = self.index.get(self.next).ok_or("has no more pages")?;
        let (first, range) = (page.first_row, page.offset as usize..(page.offset + page.length) as usize);
        self.next += 1;
        let header = self.unfold(range)?;
        match header.kind {
            DATA => Ok((header, (self.next_row() - first) as usize)),
            kind => Err(format!("has a page of kind {kind} in encoding {}", header.encoding)),
        }
    }

    /// Whether something stands before the first page.
    fn has_dictionary(&self) -> bool {
        !self.first.is_empty()
    }

    /// Unfolds the dictionary, which [`Self::page`] is then; how many values it has.
    fn dictionary(&mut self) -> Result<usize, String> {
        match self.unfold(self.first.clone())? {
            PageHeader { kind: DICTIONARY, encoding: PLAIN | PLAIN_DICTIONARY, values, .. } => Ok(values as usize),
            _ => Err("has an unknown page before its first".into()),
        }
    }

    /// The page that was unfolded last, without its header.
    fn page(&self) -> &[u8] {
        self.stored.as_ref().map_or(&self.unfolded, |range| &self.bytes[range.clone()])
    }

    fn unfold(&mut self, range: Range<usize>) -> Result<PageHeader, String> {
        let (header, length) = thrift::page_header(part(self.bytes, &range)?).ok_or("has a damaged page header")?;
        if header.values < 0 || header.unfolded < 0 {
            return Err("has a page of negative length".into());
        }
        self.limits.check(header.values.into(), header.unfolded.into())?;
        let (body, unfolded) = (range.start + length..range.end, header.unfolded as usize);
        if usize::try_from(header.stored) != Ok(body.len()) {
            return Err(format!("has a page of {} bytes that claims {}", body.len(), header.stored));
        }
        let got = if self.is_compressed {
            self.stored = None;
            self.unfolded.resize(unfolded, 0);
            unzstd(&self.bytes[body], &mut self.unfolded)?
        } else {
            self.stored = Some(body.clone());
            body.len()
        };
        match got == unfolded {
            true => Ok(header),
            false => Err(format!("has a page that unfolds to {got} bytes and claims {unfolded}")),
        }
    }
}

/// The entries of a chunk's index, whose pages lie one after the other in the chunk.
fn index_of(bytes: &[u8], chunk: &Chunk, rows: u64) -> Result<Vec<Location>, String> {
    let index = thrift::locations(part(bytes, &chunk.index)?)?;
    check_rows(&index, rows)?;
    let ends = index.iter().map(|page| page.offset.saturating_add(page.length));
    let starts = index.iter().map(|page| page.offset).chain([chunk.pages.end as u64]);
    match [chunk.pages.start as u64].into_iter().chain(ends).zip(starts).all(|(end, next)| end <= next) {
        true => Ok(index),
        false => Err("has a page outside its bytes".into()),
    }
}

/// The first rows of pages begin at 0 and ascend.
fn check_rows(pages: &[Location], rows: u64) -> Result<(), String> {
    let firsts = || pages.iter().map(|page| page.first_row);
    match firsts().next() == Some(0) && firsts().is_sorted_by(|a, b| a < b) && firsts().all(|first| first < rows) {
        true => Ok(()),
        false => Err("has pages whose first rows are not in order".into()),
    }
}

fn part<'a>(bytes: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], String> {
    bytes.get(range.clone()).ok_or_else(|| "has a page outside its bytes".into())
}

/// Bytes that `from` unfolds to in `to`.
fn unzstd(from: &[u8], to: &mut [u8]) -> Result<usize, String> {
    // Making a context takes longer than unfolding a small page.
    thread_local!(static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) });
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::new().map_err(|error| format!("cannot be unfolded: {error}"))?),
        };
        context.decompress_to_buffer(from, to).map_err(|error| format!("has a damaged page: {error}"))
    })
}
