//! A shard as bytes, without a copy. The only `unsafe` of the crate.

use crate::error::{Error, Result};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps the shard at `path`, which must be exactly `expected` bytes long.
pub(crate) fn map(path: &Path, expected: u64) -> Result<Bytes> {
    let file = File::open(path).map_err(Error::io(path, "open the shard"))?;
    let got = file.metadata().map_err(Error::io(path, "stat the shard"))?.len();
    if got != expected {
        return Err(Error::Size { path: path.to_owned(), expected, got });
    }
    // SAFETY: no shard may change while a reader lives. Our writer keeps this: a shard gets its name once, when it is
    // complete, and is never written again (`publish::create`); FORMAT.md asks the same of every other program.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map the shard"))?;
    Ok(Bytes::from_owner(map))
}
