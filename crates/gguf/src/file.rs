//! A file: its header in memory, and its tensors on disk.

use crate::header::{Header, Problem};
use crate::{Error, Result, Tensor, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A GGUF file whose header was read.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    header: Header,
}

impl GgufFile {
    /// Reads and checks the header, whose contents take at most 256 MiB of memory, whatever the file says.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not a header, is damaged, describes tensors that the file does not have, or uses a
    /// type of tensors that this build does not read; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let io = |reason| Error::Io { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let header = Header::parse(BufReader::new(file), size).map_err(|problem| match problem {
            Problem::Io(reason) => Error::Io { path: path.to_owned(), reason },
            Problem::Format(problem) => Error::Format { path: path.to_owned(), problem },
        })?;
        Ok(Self { path: path.to_owned(), header })
    }

    /// Whether the file begins as a GGUF file does.
    pub fn is_one(path: &Path) -> bool {
        let mut magic = [0; 4];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// The tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.header.tensors
    }

    /// The texts with the keys `KEY` and `KEY.NAME`, each with its NAME, if it has one.
    pub fn texts_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
        self.header.metadata.iter().filter_map(move |(found, value)| {
            let name = match found.strip_prefix(key)? {
                "" => None,
                rest => Some(rest.strip_prefix('.')?),
            };
            Some((name, value.as_text()?))
        })
    }

    /// The value of `key` as `read` sees it, `None` if the file does not have the key.
    ///
    /// # Errors
    /// [`Error::Key`] if `read` finds another kind of value than it `expected`.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.header.metadata.get(key) else { return Ok(None) };
        let problem = || format!("it is {}, expected {expected}", value.kind());
        read(value).map(Some).ok_or_else(|| self.key_error(key, problem()))
    }

    /// The value of `key` as `read` sees it.
    ///
    /// # Errors
    /// [`Error::Key`] if the key is missing, or `read` finds another kind of value than it `expected`.
    pub fn required<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let missing = || self.key_error(key, format!("it is missing, expected {expected}"));
        self.optional(key, expected, read)?.ok_or_else(missing)
    }

    /// An error about a key.
    pub fn key_error(&self, key: &str, problem: String) -> Error {
        Error::Key { path: self.path.clone(), key: key.to_owned(), problem }
    }

    /// Passes on the bytes of a tensor in order, `group` bytes at a time; the last part may have fewer.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is no tensor of this name; [`Error::Io`] if its bytes cannot be read.
    pub fn for_each_group(&self, name: &str, group: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        let tensor = self.header.tensors.get(name).ok_or_else(|| Error::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            problem: "there is no such tensor".to_owned(),
        })?;
        let io = |reason| Error::Io { path: self.path.clone(), reason };
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(self.header.data_start + tensor.offset)).map_err(io)?;
        let mut left = tensor.bytes;
        let mut bytes = vec![0; left.min(group.max(1) as u64) as usize];
        while left > 0 {
            bytes.truncate(left.min(bytes.len() as u64) as usize);
            file.read_exact(&mut bytes).map_err(io)?;
            each(&bytes);
            left -= bytes.len() as u64;
        }
        Ok(())
    }
}

impl Tensor {
    /// Number of bytes of a row, which is what the last dimension counts.
    pub fn row_bytes(&self) -> usize {
        let row = self.shape.last().copied().unwrap_or(0);
        row / self.tensor_type.block_values() * self.tensor_type.block_bytes()
    }
}
