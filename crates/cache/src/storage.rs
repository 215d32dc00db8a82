//! How a reader holds the bytes of its shards. The only `unsafe` of the crate.

use crate::error::{Error, Result};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::{self, File, Metadata};
use std::path::Path;

/// How a reader holds the bytes of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage(Kind);

/// Private, so that only [`Storage::mapped`] makes a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Map,
}

impl Storage {
    /// A shard is read into memory when it is first used. Whatever happens to its file afterwards, the rows are those whose
    /// hash was checked. The shards that were used last stay in memory, up to [`Self::MOST_READ`] bytes of them.
    pub const READ: Self = Self(Kind::Read);
    /// Bytes of shards that [`Self::READ`] keeps in memory: one shard, if it alone has more.
    pub const MOST_READ: u64 = 1 << 30;

    /// Shards are mapped into memory: no copy, and of a shard only those pages are read that are asked for.
    ///
    /// # Safety
    /// No shard of the cache may be changed or cut while a reader of it lives, by this process or any other. Logitcask keeps
    /// this: a shard gets its name once, when it is complete, and is never written again, and FORMAT.md asks the same of
    /// every other writer. The length of a file is looked at before every decode; a cut during one ends the process
    /// (SIGBUS).
    pub const unsafe fn mapped() -> Self {
        Self(Kind::Map)
    }

    /// Does a file that changes change the bytes too?
    pub(crate) fn is_mapped(self) -> bool {
        self == Self(Kind::Map)
    }

    /// The shard at `path`, which must be exactly `expected` bytes long; with what its file is.
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

/// The whole shard at `path`, whatever its length.
pub(crate) fn read_all(path: &Path) -> Result<Bytes> {
    fs::read(path).map(Bytes::from).map_err(Error::io(path, "find the shard"))
}

/// Refuses a shard that has another length by now: pages of a map beyond its file's end cannot be touched. By its path and not
/// by an open file, of which a cache of many shards would need too many.
pub(crate) fn check_whole(path: &Path, expected: u64) -> Result<()> {
    check_length(path, fs::metadata(path).map_err(Error::io(path, "find the shard"))?.len(), expected)
}

fn check_length(path: &Path, got: u64, expected: u64) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Size { path: path.to_owned(), expected, got }) }
}
