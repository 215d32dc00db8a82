//! Headers and indexes of pages, in Thrift's compact protocol. Only what writers write is understood.

/// Types of fields.
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;
/// Bytes of the shortest entry of a page index: three numbers and an end.
const MIN_LOCATION_BYTES: u64 = 4;

/// What matters of a page's header.
pub(super) struct PageHeader {
    pub(super) kind: i32,
    /// Bytes of the page behind its header, as it is stored and as it unfolds.
    pub(super) stored: i32,
    pub(super) unfolded: i32,
    pub(super) values: i32,
    pub(super) encoding: i32,
    /// Encodings of the levels of a data page.
    pub(super) levels: (i32, i32),
}

/// An entry of a page index.
pub(super) struct Location {
    pub(super) offset: u64,
    /// Bytes with the header.
    pub(super) length: u64,
    pub(super) first_row: u64,
}

/// The header that `page` begins with and how long it is; `None` where it begins with none.
pub(super) fn page_header(page: &[u8]) -> Option<(PageHeader, usize)> {
    let mut thrift = Thrift(page);
    let header = thrift.page_header()?;
    Some((header, page.len() - thrift.0.len()))
}

/// The entries of a page index; `Err` says what it is instead.
pub(super) fn locations(index: &[u8]) -> Result<Vec<Location>, String> {
    let mut thrift = Thrift(index);
    let pages = thrift.list_of_structs().ok_or("has a page index that is none")?;
    if pages.saturating_mul(MIN_LOCATION_BYTES) > index.len() as u64 {
        return Err(format!("has a page index of {} bytes that claims {pages} pages", index.len()));
    }
    (0..pages).map(|_| thrift.location()).collect::<Option<_>>().ok_or("has a damaged page index".into())
}

/// Bytes that are still to be read. `None` is an end too early, or something that no header has.
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

    fn long(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn int(&mut self) -> Option<i32> {
        i32::try_from(self.long()?).ok()
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
    fn list_of_structs(&mut self) -> Option<u64> {
        let (1, LIST) = self.field(0)?? else { return None };
        match self.byte()? {
            head if head & 0x0f != STRUCT => None,
            head if head >> 4 == 15 => self.varint(),
            head => Some((head >> 4).into()),
        }
    }

    fn location(&mut self) -> Option<Location> {
        let (1, I64) = self.field(0)?? else { return None };
        let offset = self.long()?;
        let (2, I32) = self.field(1)?? else { return None };
        let length = self.int()?;
        let (3, I64) = self.field(2)?? else { return None };
        let first_row = self.long()?;
        let None = self.field(3)? else { return None };
        let natural = |number: i64| u64::try_from(number).ok();
        Some(Location { offset: natural(offset)?, length: natural(length.into())?, first_row: natural(first_row)? })
    }

    fn page_header(&mut self) -> Option<PageHeader> {
        let mut header = PageHeader { kind: -1, stored: -1, unfolded: -1, values: -1, encoding: -1, levels: (-1, -1) };
        let mut last = 0;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match (id, kind) {
                (1, I32) => header.kind = self.int()?,
                (2, I32) => header.unfolded = self.int()?,
                (3, I32) => header.stored = self.int()?,
                // A checksum: the whole shard has one.
                (4, I32) => _ = self.int()?,
                // The second half of a header depends on its kind; only one of them is there.
                (5 | 7, STRUCT) if header.values == -1 && header.kind == i32::from(id) - 5 => {
                    self.counts(&mut header)?
                }
                _ => return None,
            }
        }
        Some(header)
    }

    /// Count and encodings of a page; whatever follows them is passed over.
    fn counts(&mut self, header: &mut PageHeader) -> Option<()> {
        let (1, I32) = self.field(0)?? else { return None };
        header.values = self.int()?;
        let (2, I32) = self.field(1)?? else { return None };
        header.encoding = self.int()?;
        let mut last = 2;
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            match (id, kind) {
                (3, I32) => header.levels.0 = self.int()?,
                (4, I32) => header.levels.1 = self.int()?,
                (3, 1 | 2) => {}
                (5, STRUCT) => self.skip_statistics()?,
                _ => return None,
            }
        }
        Some(())
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
