//! Reading the parts of a prepared dataset in ranges, so that memory does not grow with it.

use super::error::PreparedError;
use super::part::{Record, WORD, Window, file};
use crate::error::Result;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of files that are kept open.
const OPEN: usize = 128;

/// A part of the dataset.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    record: Record,
    tokens: Ranged,
    index: Ranged,
}

/// The windows of a part, with the tokens and the marked positions before them.
pub(super) struct Windows {
    /// The window before the first one; zero if there is none.
    pub(super) before: Window,
    pub(super) windows: Vec<Window>,
}

impl Part {
    pub(super) fn new(folder: &Path, name: &str, record: Record) -> Self {
        let tokens = Ranged::new(file(folder, name, "tokens"));
        let index = Ranged::new(file(folder, name, "index"));
        Self { name: name.to_owned(), record, tokens, index }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads windows, by their numbers in the part.
    pub(super) fn windows(&self, range: Range<u64>, files: &OpenFiles) -> Result<Windows> {
        let first = range.start.saturating_sub(1);
        let bytes = self.index_bytes(first * Window::BYTES..range.end * Window::BYTES, files)?;
        let mut windows = Window::all_of(&bytes);
        let before = if range.start > 0 { windows.next().unwrap_or_default() } else { Window::default() };
        Ok(Windows { before, windows: windows.collect() })
    }

    /// Reads the tokens with these indices in the part.
    pub(super) fn tokens(&self, range: Range<u64>, files: &OpenFiles) -> Result<Vec<u32>> {
        self.tokens.check_once(|path| self.record.tokens.check(path))?;
        self.tokens.words(range.start * WORD..range.end * WORD, files)
    }

    /// Reads marked positions.
    pub(super) fn marked(&self, range: Range<u64>, files: &OpenFiles) -> Result<Vec<u32>> {
        let start = self.record.windows() * Window::BYTES;
        let bytes = self.index_bytes(start + range.start * WORD..start + range.end * WORD, files)?;
        Ok(to_words(&bytes))
    }

    fn index_bytes(&self, range: Range<u64>, files: &OpenFiles) -> Result<Vec<u8>> {
        self.index.check_once(|path| self.record.index.check(path))?;
        self.index.bytes(range, files)
    }
}

/// A file that is read in ranges.
#[derive(Debug)]
struct Ranged {
    path: PathBuf,
    /// Whether its hash was compared.
    is_checked: Mutex<bool>,
}

impl Ranged {
    fn new(path: PathBuf) -> Self {
        Self { path, is_checked: Mutex::new(false) }
    }

    /// Checks the file before it is read for the first time. Other threads wait, rather than hash it too.
    fn check_once(&self, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let mut is_checked = self.is_checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_checked {
            check(&self.path)?;
            *is_checked = true;
        }
        Ok(())
    }

    fn words(&self, range: Range<u64>, files: &OpenFiles) -> Result<Vec<u32>> {
        Ok(to_words(&self.bytes(range, files)?))
    }

    fn bytes(&self, range: Range<u64>, files: &OpenFiles) -> Result<Vec<u8>> {
        let damaged = |cause: io::Error| PreparedError::damaged(&self.path, format!("cannot be read: {cause}"));
        let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| PreparedError::damaged(&self.path, "has an index that goes backwards"))?;
        let file = files.get(&self.path).map_err(damaged)?;
        let mut bytes = vec![0; length];
        read_at(&file, &self.path, &mut bytes, range.start).map_err(damaged)?;
        Ok(bytes)
    }
}

fn to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<{ WORD as usize }>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

#[cfg(unix)]
fn read_at(file: &File, _: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Other systems move the file's position, which threads would share.
#[cfg(not(unix))]
fn read_at(_: &File, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// The files that were used most recently, the last one at the end.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Vec<(PathBuf, Arc<File>)>>);

impl OpenFiles {
    fn get(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match files.iter().rposition(|(open, _)| open == path) {
            Some(index) => files.remove(index),
            None => (path.to_owned(), Arc::new(File::open(path)?)),
        };
        if files.len() >= OPEN {
            files.remove(0);
        }
        let file = found.1.clone();
        files.push(found);
        Ok(file)
    }
}
