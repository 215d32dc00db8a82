//! Parser of page headers, which checks their claims before the Parquet crate allocates memory for them.
//!
//! Headers are structs in Thrift's compact protocol. The Parquet crate parses them again, so this parser must never
//! interpret one differently: it rejects what no writer produces (fields out of order or of another type), and of all
//! others it reads the same numbers.

/// Type codes of fields.
const BOOLEANS: [u8; 2] = [1, 2];
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;
/// Placeholder for a list's length, which then follows separately.
const LONG_LIST: u8 = 15;
/// Maximum nesting depth of structs; statistics are two deep.
const MAX_DEPTH: u8 = 8;
/// Parquet's type code of index pages, which no writer uses.
const INDEX_PAGE: i32 = 1;

/// The sizes that a page claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Size of the header itself in bytes.
    pub(super) length: usize,
    /// Sizes in bytes of the page after its header, as stored and decompressed.
    pub(super) stored: usize,
    pub(super) decompressed: usize,
    /// Size in bytes of the levels before the values, which pages of version 2 never compress.
    pub(super) level_bytes: usize,
    /// Whether the page is compressed. Pages of version 2 may be uncompressed although their column is compressed.
    pub(super) is_compressed: bool,
}

/// Parses the header at the start of `page`; `None` if it is not a header that a writer produces.
pub(super) fn read(page: &[u8]) -> Option<PageHeader> {
    let mut thrift = Thrift(page);
    let natural = |number: i32| usize::try_from(number).ok();
    let (mut stored, mut decompressed, mut level_bytes, mut is_compressed) = (None, None, 0, true);
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(last)? {
        last = id;
        match (id, kind) {
            (1, I32) if thrift.int()? != INDEX_PAGE => {}
            (2, I32) => decompressed = Some(natural(thrift.int()?)?),
            (3, I32) => stored = Some(natural(thrift.int()?)?),
            (4, I32) => _ = thrift.int()?,
            // The fields that depend on the kind of page: version 1, dictionary, version 2.
            (5, STRUCT) => _ = thrift.counts(4, None)?,
            (7, STRUCT) => _ = thrift.counts(2, Some(3))?,
            (8, STRUCT) => {
                let (counts, flag) = thrift.counts(6, Some(7))?;
                level_bytes = natural(counts[4])?.checked_add(natural(counts[5])?)?;
                is_compressed = flag.unwrap_or(true);
            }
            _ => return None,
        }
    }
    let length = page.len() - thrift.0.len();
    Some(PageHeader { length, stored: stored?, decompressed: decompressed?, level_bytes, is_compressed })
}

/// Length in bytes of the delta-packed run of at most `most` integers at the start of `bytes`. The Parquet crate
/// allocates memory for as many lengths of binary values as the run claims.
pub(super) fn delta_packed_length(bytes: &[u8], most: u64) -> Option<usize> {
    let mut thrift = Thrift(bytes);
    let (block, parts, count) = (thrift.varint()?, thrift.varint()?, thrift.varint()?);
    thrift.varint()?;
    if count > most || parts == 0 || !block.is_multiple_of(parts) || !(block / parts).is_multiple_of(8) {
        return None;
    }
    let per_part = block / parts;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        thrift.varint()?;
        let widths = thrift.bytes(parts)?;
        for width in widths {
            // The widths of parts after the last integer have no meaning.
            if left > 0 {
                thrift.bytes(u64::from(*width).checked_mul(per_part / 8)?)?;
                left = left.saturating_sub(per_part);
            }
        }
        if per_part == 0 {
            return None;
        }
    }
    Some(bytes.len() - thrift.0.len())
}

/// Number of pages that the page index `index` claims to list, for which the Parquet crate allocates memory; `None` if
/// it is not a page index.
pub(super) fn pages_of_index(index: &[u8]) -> Option<u64> {
    let mut thrift = Thrift(index);
    let (1, LIST) = thrift.field(0)?? else { return None };
    match thrift.bytes(1)?[0] >> 4 {
        LONG_LIST => thrift.varint(),
        short => Some(short.into()),
    }
}

/// The remaining bytes. Methods return `None` if the bytes end too early, or for something that no header contains.
struct Thrift<'a>(&'a [u8]);

impl<'a> Thrift<'a> {
    fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.bytes(1)?[0];
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
        match self.bytes(1)?[0] {
            end if end & 0x0f == 0 => Some(None),
            // Ids that are written out in full are rejected, because they could repeat a field.
            long if long >> 4 == 0 => None,
            head => Some(Some((last.checked_add(head >> 4)?, head & 0x0f))),
        }
    }

    /// Reads a struct that starts with `integers` integer fields and may contain a flag with this id; all other fields
    /// are skipped.
    fn counts(&mut self, integers: u8, flag: Option<u8>) -> Option<([i32; 6], Option<bool>)> {
        let (mut counts, mut value, mut last) = ([0; 6], None, 0);
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match kind {
                I32 if id <= integers => *counts.get_mut(usize::from(id) - 1)? = self.int()?,
                kind if Some(id) == flag && BOOLEANS.contains(&kind) => value = Some(kind == BOOLEANS[0]),
                _ if id <= integers || Some(id) == flag => return None,
                kind => self.skip(kind, 0)?,
            }
        }
        Some((counts, value))
    }

    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            kind if BOOLEANS.contains(&kind) => {}
            BYTE => _ = self.bytes(1)?,
            I16 | I32 | I64 => _ = self.varint()?,
            DOUBLE => _ = self.bytes(8)?,
            BINARY => {
                let length = self.varint()?;
                self.bytes(length)?;
            }
            STRUCT if depth < MAX_DEPTH => {
                let mut last = 0;
                while let Some((id, kind)) = self.field(last)? {
                    last = id;
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }
}
