//! How a reader holds the bytes of its shards. This module has the only `unsafe` code of the crate.

use crate::error::{Error, Result};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
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
    /// A row group is read into memory when it is first used. Later changes to its file do not affect the rows, whose
    /// hash was checked. The most recently used shards stay in memory, up to a total of [`Self::MOST_READ`] bytes.
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

    /// Maps the file at `path`, if files are to be mapped.
    pub(crate) fn map(self, path: &Path) -> Result<Option<Bytes>> {
        if self.0 == Kind::Read {
            return Ok(None);
        }
        let file = File::open(path).map_err(Error::io(path, "open the file"))?;
        // SAFETY: a `Map` exists only because a caller accepted the contract of `mapped`.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map the file"))?;
        Ok(Some(Bytes::from_owner(map)))
    }
}
