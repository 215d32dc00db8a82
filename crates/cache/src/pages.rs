//! What the pages of a shard claim to unfold to, looked at before any of them is unfolded.
//!
//! The Parquet decoder takes the memory that a page's header asks for, and a few bytes of run lengths can ask for
//! gigabytes. So every header is read here first and held against what the plan's longest rows would take. Only headers
//! as writers write them are understood; anything else is refused, so that both readers read the same.

use crate::plan::Plan;
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;

/// A model needs a few bytes for each class that occurs and some for its statistics; more is not ours.
const SLACK: u128 = 64 << 20;
/// Bytes of the widest number in a list.
const MAX_VALUE_BYTES: u128 = 8;
/// Parquet's numbers of the encodings that are read: what they unfold to is bounded by a page's bytes and count.
const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE_DICTIONARY: i32 = 8;
const BYTE_STREAM_SPLIT: i32 = 9;
/// Bytes of the shortest entry of a page index: three numbers and an end.
const MIN_LOCATION_BYTES: u64 = 4;

/// What one column of a block may hold.
pub(crate) struct Limits {
    pub(crate) values: u128,
    pub(crate) bytes: u128,
}

impl Limits {
    /// For a block of `rows`.
    pub(crate) fn of(plan: &Plan, rows: u64) -> Self {
        let per_position = u128::from(plan.cap()).max(plan.keep.atoms() as u128);
        let values = u128::from(rows) * u128::from(plan.max_length) * per_position;
        // What is unfolded beside the values: levels, and lengths of binary values.
        Self { values, bytes: 2 * MAX_VALUE_BYTES * values + SLACK }
    }

    /// Refuses a column that claims more.
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

/// Refuses page indexes that are missing or longer than their bytes: the decoder would take memory for all they claim.
pub(crate) fn check_indexes(bytes: &[u8], metadata: &ParquetMetaData) -> Result<(), String> {
    each_column(metadata, |_, _, chunk| {
        let (offset, length) = (chunk.offset_index_offset().and_then(natural), chunk.offset_index_length());
        let (offset, length) =
            offset.zip(length.and_then(|length| natural(length.into()))).ok_or("has no page index")?;
        let index = part(bytes, offset, offset.saturating_add(length)).ok_or("has its page index outside the file")?;
        match Thrift(index).first_list() {
            Some(pages) if pages.saturating_mul(MIN_LOCATION_BYTES) <= length => Ok(()),
            Some(pages) => Err(format!("has a page index of {length} bytes that claims {pages} pages")),
            None => Err("has a page index that is none".into()),
        }
    })
}

/// Refuses pages outside their column's bytes or in another order than the index says, and columns whose pages claim
/// more than the limits of their block.
pub(crate) fn check(bytes: &[u8], metadata: &ParquetMetaData, limits: impl Fn(usize) -> Limits) -> Result<(), String> {
    each_column(metadata, |block, column, chunk| {
        let index = metadata.page_index_for_row_group(block);
        let pages = index.page_locations(column).ok_or("has no page index")?;
        check_rows(pages, metadata.row_group(block).num_rows())?;
        let start = natural(chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()));
        let (start, length) = start.zip(natural(chunk.compressed_size())).ok_or("has negative offsets")?;
        let mut walk =
            Walk { bytes, at: start, end: start.saturating_add(length), limits: limits(block), claimed: (0, 0) };
        let is_binary = chunk.column_type() == Type::BYTE_ARRAY;
        let first = pages.first().and_then(|page| natural(page.offset)).ok_or("has no pages")?;
        if first > start {
            // A binary value may be large, and a dictionary repeats it for a few bits.
            match walk.page(start, first)? {
                PageHeader { kind: DICTIONARY, encoding: PLAIN | PLAIN_DICTIONARY, .. } if !is_binary => {
                    walk.claimed.0 = 0
                }
                _ => return Err("has an unknown page before its first".into()),
            }
        }
        for PageLocation { offset, compressed_page_size, .. } in pages {
            let place = natural(*offset).zip(natural((*compressed_page_size).into()));
            let (from, length) = place.ok_or("has negative offsets")?;
            let header = walk.page(from, from.saturating_add(length))?;
            let is_known = match header.encoding {
                PLAIN => true,
                BYTE_STREAM_SPLIT => !is_binary,
                PLAIN_DICTIONARY | RLE_DICTIONARY => first > start,
                _ => false,
            };
            if header.kind != DATA || !is_known {
                return Err(format!("has a page of kind {} in encoding {}", header.kind, header.encoding));
            }
        }
        Ok(())
    })
}

/// The first rows of pages begin at 0 and ascend.
fn check_rows(pages: &[PageLocation], rows: i64) -> Result<(), String> {
    let firsts = || pages.iter().map(|page| page.first_row_index);
    match firsts().next() == Some(0) && firsts().is_sorted_by(|a, b| a < b) && firsts().all(|first| first < rows) {
        true => Ok(()),
        false => Err("has pages whose first rows are not in order".into()),
    }
}

/// Over the pages of a column, which must not overlap.
struct Walk<'a> {
    bytes: &'a [u8],
    /// Where the next page may begin, and where the last must end.
    at: u64,
    end: u64,
    limits: Limits,
    /// Values and bytes so far.
    claimed: (i64, i64),
}

impl Walk<'_> {
    fn page(&mut self, from: u64, to: u64) -> Result<PageHeader, String> {
        let is_within = self.at <= from && to <= self.end;
        let page = part(self.bytes, from, to).filter(|_| is_within).ok_or("has a page outside its bytes")?;
        let header = Thrift(page).page_header().ok_or("has a damaged page header")?;
        self.at = to;
        self.claimed.0 += i64::from(header.values);
        self.claimed.1 += i64::from(header.unfolded);
        if header.values < 0 || header.unfolded < 0 {
            return Err("has a page of negative length".into());
        }
        self.limits.check(self.claimed.0, self.claimed.1)?;
        Ok(header)
    }
}

/// Calls `check` with block, number and metadata of every column; `Err` says which it did not like, and why.
fn each_column(
    metadata: &ParquetMetaData,
    check: impl Fn(usize, usize, &ColumnChunkMetaData) -> Result<(), String>,
) -> Result<(), String> {
    for (block, group) in metadata.row_groups().iter().enumerate() {
        for (column, chunk) in group.columns().iter().enumerate() {
            let name = || chunk.column_path().parts().first().cloned().unwrap_or_default();
            check(block, column, chunk).map_err(|problem| format!("block {block}: column {} {problem}", name()))?;
        }
    }
    Ok(())
}

fn natural(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}

fn part(bytes: &[u8], from: u64, to: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

/// What matters of a page header.
struct PageHeader {
    kind: i32,
    unfolded: i32,
    values: i32,
    encoding: i32,
}

/// Kinds of pages.
const DATA: i32 = 0;
const DICTIONARY: i32 = 2;

/// Types of fields in Thrift's compact protocol.
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Bytes in Thrift's compact protocol. `None` is an end too early, or something that no header has.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i32> {
        let zigzag = self.varint()?;
        i32::try_from((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)).ok()
    }

    /// Id and type of the field after the one with id `last`; `Some(None)` at the end of the struct.
    fn field(&mut self, last: u8) -> Option<Option<(u8, u8)>> {
        match self.byte()? {
            end if end & 0x0f == 0 => Some(None),
            // Ids that are written out in full: they could name a field twice.
            long if long >> 4 == 0 => None,
            head => Some(Some((last.checked_add(head >> 4)?, head & 0x0f))),
        }
    }

    /// Length of the list that is the first field.
    fn first_list(mut self) -> Option<u64> {
        let (1, LIST) = self.field(0)?? else { return None };
        match self.byte()? >> 4 {
            15 => self.varint(),
            short => Some(short.into()),
        }
    }

    fn page_header(mut self) -> Option<PageHeader> {
        let mut header = PageHeader { kind: -1, unfolded: -1, values: -1, encoding: -1 };
        let mut last = 0;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match (id, kind) {
                (1, I32) => header.kind = self.int()?,
                (2, I32) => header.unfolded = self.int()?,
                // Its length, which the index has too, and a checksum.
                (3 | 4, I32) => _ = self.int()?,
                // The second half of a header depends on its kind; only one of them is there.
                (5 | 7, STRUCT) if header.values == -1 && header.kind == i32::from(id) - 5 => {
                    (header.values, header.encoding) = self.counts()?;
                }
                _ => return None,
            }
        }
        Some(header)
    }

    /// Count and encoding; whatever follows them is passed over.
    fn counts(&mut self) -> Option<(i32, i32)> {
        let (1, I32) = self.field(0)?? else { return None };
        let values = self.int()?;
        let (2, I32) = self.field(1)?? else { return None };
        let encoding = self.int()?;
        let mut last = 2;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match (id, kind) {
                (3 | 4, I32) => _ = self.int()?,
                (3, 1 | 2) => {}
                (5, STRUCT) => self.skip_statistics()?,
                _ => return None,
            }
        }
        Some((values, encoding))
    }

    fn skip_statistics(&mut self) -> Option<()> {
        let mut last = 0;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match kind {
                1 | 2 => {}
                3..=6 => _ = self.varint()?,
                BINARY => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    self.0 = self.0.get(length..)?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}
