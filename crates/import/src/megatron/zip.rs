//! ZIP archives of uncompressed entries, as `torch.save` writes them.
//!
//! The crates that read ZIP archives need features of others that burn is built without, and would have it compiled again.

use flate2::Crc;
use std::collections::HashMap;

/// An archive, whose entries are parts of its bytes.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<&'a str, Entry>,
}

/// What the archive's directory says of an entry.
#[derive(Clone, Copy)]
struct Entry {
    method: u16,
    crc: u32,
    packed: u64,
    length: u64,
    /// Where its own header is.
    header: u64,
}

/// Signatures: of the end, its longer form and the pointer to that, of an entry in the directory, and of the entry itself.
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const LISTED: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// Length of the end, without the comment that may follow.
const END_LENGTH: usize = 22;
const LONGEST_COMMENT: usize = 65_535;
/// The extra field with the numbers that do not fit into 32 bits, which are then all ones.
const ZIP_64: u16 = 1;

impl<'a> Archive<'a> {
    /// Reads the directory.
    ///
    /// # Errors
    /// No archive.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let problem = "not a whole ZIP archive, as torch.save of PyTorch 1.6 and later writes it";
        let entries = directory(bytes).ok_or(problem)?;
        Ok(Self { bytes, entries })
    }

    /// The names of the entries, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// The bytes of an entry, which its checksum confirms; `None` if there is none.
    ///
    /// # Errors
    /// A compressed entry, and a damaged one.
    pub fn entry(&self, name: &str) -> Result<Option<&'a [u8]>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        if entry.method != 0 || entry.packed != entry.length {
            return Err(format!("{name} is compressed, which torch.save does not do"));
        }
        let bytes = self.contents(entry).ok_or_else(|| format!("{name} lies outside of the archive"))?;
        let mut crc = Crc::new();
        crc.update(bytes);
        match crc.sum() == entry.crc {
            true => Ok(Some(bytes)),
            false => Err(format!("{name} does not have the checksum that the archive states: it is damaged")),
        }
    }

    fn contents(&self, entry: &Entry) -> Option<&'a [u8]> {
        let local = self.bytes.get(usize::try_from(entry.header).ok()?..)?;
        if u32_at(local, 0)? != LOCAL {
            return None;
        }
        let start = 30 + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
        local.get(start..)?.get(..usize::try_from(entry.length).ok()?)
    }
}

/// The entries that the directory at the end lists.
fn directory(bytes: &[u8]) -> Option<HashMap<&str, Entry>> {
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let end = (last.saturating_sub(LONGEST_COMMENT)..=last).rev().find(|start| u32_at(bytes, *start) == Some(END))?;
    let (mut count, mut start) = (u64::from(u16_at(bytes, end + 10)?), u64::from(u32_at(bytes, end + 16)?));
    if count == u64::from(u16::MAX) || start == u64::from(u32::MAX) {
        let locator = end.checked_sub(20).filter(|locator| u32_at(bytes, *locator) == Some(LOCATOR_64))?;
        let end = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        (u32_at(bytes, end) == Some(END_64)).then_some(())?;
        (count, start) = (u64_at(bytes, end.checked_add(32)?)?, u64_at(bytes, end.checked_add(48)?)?);
    }
    let (mut entries, mut rest) = (HashMap::new(), bytes.get(usize::try_from(start).ok()?..)?);
    for _ in 0..count {
        let (name, entry, length) = listed(rest)?;
        entries.insert(name, entry);
        rest = &rest[length..];
    }
    Some(entries)
}

/// The entry that the directory lists next, its name, and the length of its line.
fn listed(line: &[u8]) -> Option<(&str, Entry, usize)> {
    (u32_at(line, 0)? == LISTED).then_some(())?;
    let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(line, at).map(usize::from));
    let (name_end, extra_end) = (46 + name?, 46 + name? + extra?);
    let mut long = long_numbers(line.get(name_end..extra_end)?);
    let mut number = |at| match u32_at(line, at)? {
        u32::MAX => long.next(),
        number => Some(number.into()),
    };
    // In the order in which the extra field has those that are too long.
    let (length, packed, header) = (number(24)?, number(20)?, number(42)?);
    let entry = Entry { method: u16_at(line, 10)?, crc: u32_at(line, 16)?, packed, length, header };
    let end = extra_end + comment?;
    line.get(..end)?;
    Some((std::str::from_utf8(line.get(46..name_end)?).ok()?, entry, end))
}

/// The numbers of 64 bits among the extra fields of an entry.
fn long_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut numbers: &[u8] = &[];
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(field) = extra.get(4..4 + usize::from(length)) else { break };
        if kind == ZIP_64 {
            numbers = field;
        }
        extra = &extra[4 + field.len()..];
    }
    numbers.chunks_exact(8).filter_map(|bytes| bytes.try_into().map(u64::from_le_bytes).ok())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
