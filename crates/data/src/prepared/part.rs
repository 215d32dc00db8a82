//! One part of a prepared dataset: a file of tokens and an index of its windows.
//!
//! `NAME.tokens` contains the tokens of all windows, split by split, as 32-bit integers. `NAME.index` contains a
//! [`Window`] for each of them, and then the marked positions of all windows as 32-bit integers. All integers are
//! little-endian. `NAME.json`, the [`Record`], is written last.

use super::error::PreparedError;
use crate::chat::ChatCounts;
use crate::error::{Error, Result};
use crate::split_windows::Split;
use logitcask_core::Fingerprint;
use logitcask_files::AtomicFile;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes of a token or of a marked position.
pub(super) const WORD: u64 = 4;
/// Prefix of unfinished files, which nobody reads.
pub(super) const TEMP: &str = ".tmp-";
/// Size of the buffer in front of a file that is written.
const BUFFER: usize = 1 << 20;

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) blake3: Fingerprint,
}

/// What a part holds of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartSplit {
    pub(super) name: String,
    pub(super) windows: u64,
    pub(super) documents: u64,
    /// Tokens of these documents, without start tokens and overlaps of windows.
    pub(super) tokens: u64,
    pub(super) has_marks: bool,
    /// What became of its conversations.
    #[serde(default, skip_serializing_if = "ChatCounts::is_zero")]
    pub(super) chats: ChatCounts,
}

/// The description of a complete part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) tokens: Written,
    pub(super) index: Written,
    pub(super) splits: Vec<PartSplit>,
}

/// A window in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// End of its tokens in the part's; they start where the previous window's end.
    pub(super) end: u64,
    /// End of its marked positions in the part's.
    pub(super) marked_end: u64,
    /// Index of its document among those of the part's source files.
    pub(super) document: u64,
    /// Index in the document of its first token after the start token.
    pub(super) offset: u32,
}

impl Window {
    /// Bytes in the index.
    pub(super) const BYTES: u64 = 28;

    fn to_bytes(self) -> [u8; Self::BYTES as usize] {
        let mut bytes = [0; Self::BYTES as usize];
        bytes[..8].copy_from_slice(&self.end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.marked_end.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.document.to_le_bytes());
        bytes[24..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// Reads the windows of some complete records.
    pub(super) fn all_of(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.as_chunks::<{ Self::BYTES as usize }>().0.iter().map(|bytes| {
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
            let offset = u32::from_le_bytes(std::array::from_fn(|byte| bytes[24 + byte]));
            Self { end: long(0), marked_end: long(8), document: long(16), offset }
        })
    }
}

/// The path of one of a part's files.
pub(super) fn file(folder: &Path, name: &str, ending: &str) -> PathBuf {
    folder.join(format!("{name}.{ending}"))
}

impl Record {
    /// Reads the record of a part; `None` if the part is not complete.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Self>> {
        super::read_json(&file(folder, name, "json"))
    }

    /// Writes a part with these windows, its record last.
    pub(super) fn write(folder: &Path, name: &str, splits: &[Split]) -> Result<Self> {
        let tokens = create(&file(folder, name, "tokens"), |out| {
            splits.iter().try_for_each(|split| words(out, split.tokens()))
        })?;
        let index = create(&file(folder, name, "index"), |out| {
            let (mut tokens, mut marked) = (0, 0);
            for split in splits {
                for (index, origin) in split.origins.iter().enumerate() {
                    let end = tokens + split.ends[index] as u64;
                    let marked_end = marked + split.marked_end(index).unwrap_or(0) as u64;
                    let window = Window { end, marked_end, document: origin.document, offset: origin.offset };
                    out.write_all(&window.to_bytes())?;
                }
                tokens += split.tokens().len() as u64;
                marked += split.all_marked().len() as u64;
            }
            splits.iter().try_for_each(|split| words(out, split.all_marked()))
        })?;
        let of_split = |split: &Split| PartSplit {
            name: split.name.clone(),
            windows: split.ends.len() as u64,
            documents: split.documents,
            tokens: split.document_tokens,
            has_marks: split.has_marks(),
            chats: split.chats,
        };
        let record = Self { tokens, index, splits: splits.iter().map(of_split).collect() };
        super::create_json(&file(folder, name, "json"), &record)?;
        Ok(record)
    }

    /// Number of windows of all splits.
    pub(super) fn windows(&self) -> u64 {
        self.splits.iter().map(|split| split.windows).sum()
    }

    /// Compares the part's files with what was written.
    pub(super) fn check(&self, folder: &Path, name: &str) -> Result<()> {
        self.tokens.check(&file(folder, name, "tokens"))?;
        self.index.check(&file(folder, name, "index"))
    }
}

impl Written {
    /// Compares the file with what was written.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let damaged = |problem: String| Error::from(PreparedError::damaged(path, problem));
        let file = File::open(path).map_err(|cause| damaged(format!("cannot be opened: {cause}")))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(|cause| damaged(format!("cannot be read: {cause}")))?;
        match hasher.count() == self.bytes && Fingerprint::from(hasher.finalize()) == self.blake3 {
            true => Ok(()),
            false => Err(damaged(format!(
                "has {} bytes of another hash than the {} that were written",
                hasher.count(),
                self.bytes
            ))),
        }
    }
}

/// Writes a file under a temporary name, replaces one of that name, and hashes it meanwhile. A file without a record is
/// the remainder of a killed process.
fn create(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Written> {
    let created = || {
        let file = AtomicFile::create(path, TEMP)?;
        let mut out = BufWriter::with_capacity(BUFFER, Hashing { file, hasher: blake3::Hasher::new() });
        write(&mut out)?;
        let Hashing { file, hasher } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync()?;
        file.persist_over()?;
        Ok(Written { bytes: hasher.count(), blake3: hasher.finalize().into() })
    };
    created().map_err(|cause| PreparedError::write(path)(cause).into())
}

/// Hashes what is written.
struct Hashing {
    file: AtomicFile,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn words(out: &mut dyn Write, words: &[u32]) -> io::Result<()> {
    words.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))
}
