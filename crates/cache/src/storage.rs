//! How a reader holds the bytes of its shards. This module has the only `unsafe` code of the crate.

use crate::error::{Error, Result};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::{self, File, Metadata};
use std::path::Path;

/// How a reader holds the bytes of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage(Kind);

/// Private, so that only [`Storage::mapped`] can create a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Map,
}

impl Storage {
    /// A shard is read into memory when it is first used. Later changes to its file do not affect the rows, whose hash
    /// was checked. The most recently used shards stay in memory, up to a total of [`Self::MOST_READ`] bytes.
    pub const READ: Self = Self(Kind::Read);
    /// Maximum total size of shards that [`Self::READ`] keeps in memory; a single larger shard is kept alone.
    pub const MOST_READ: u64 = 1 << 30;

    /// Shards are memory-mapped: there is no copy, and only the requested pages of a shard are read.
    ///
    /// # Safety
    /// No shard of the cache may be modified or truncated during the lifetime of a reader, by this process or any
    /// other. Logitcask guarantees this: a shard gets its name once, when it is complete, and is never written again,
    /// and FORMAT.md requires the same of every other writer. The length of a file is checked before every decode; a
    /// truncation during a decode kills the process (SIGBUS).
    pub const unsafe fn mapped() -> Self {
        Self(Kind::Map)
    }

    /// Whether a change of the file also changes the bytes.
    pub(crate) fn is_mapped(self) -> bool {
        self == Self(Kind::Map)
    }

    /// Opens the shard at `path`, which must be exactly `expected` bytes long; also returns the file's metadata.
    pub(crate) fn bytes(self, path: &Path, expected: u64) -> Result<(Bytes, Metadata)> {
        let file = File::open(path).map_err(Error::io(path, "open the shard"))?;
        let metadata = file.metadata().map_err(Error::io(path, "find the shard"))?;
        check_length(path, metadata.len(), expected)?;
        let bytes = match self.0 {
            Kind::Read => {
                let bytes = Bytes::from(fs::read(path).map_err(Error::io(path, "read the shard"))?);
                check_length(path, bytes.len() as u64, expected)?;
                bytes
            }
            Kind::Map => {
                // SAFETY: a `Map` exists only because a caller accepted the contract of `mapped`.
                Bytes::from_owner(unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map the shard"))?)
            }
        };
        Ok((bytes, metadata))
    }
}

/// Reads the whole shard at `path`, whatever its length.
pub(crate) fn read_all(path: &Path) -> Result<Bytes> {
    fs::read(path).map(Bytes::from).map_err(Error::io(path, "find the shard"))
}

/// Rejects a shard whose length has changed, because pages of a map beyond the end of its file cannot be accessed. It
/// uses the path rather than an open file, of which a cache with many shards would need too many.
pub(crate) fn check_whole(path: &Path, expected: u64) -> Result<()> {
    check_length(path, fs::metadata(path).map_err(Error::io(path, "find the shard"))?.len(), expected)
}

fn check_length(path: &Path, got: u64, expected: u64) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Size { path: path.to_owned(), expected, got }) }
}
