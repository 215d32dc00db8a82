//! A shard as bytes, without a copy. The only `unsafe` of the crate.

use crate::error::{Error, Result};
use bytes::Bytes;
use memmap2::Mmap;
use std::fs::{self, File, Metadata};
use std::path::Path;

/// Maps the shard at `path`, which must be exactly `expected` bytes long; with what its file is.
pub(crate) fn map(path: &Path, expected: u64) -> Result<(Bytes, Metadata)> {
    let file = File::open(path).map_err(Error::io(path, "open the shard"))?;
    let metadata = file.metadata().map_err(Error::io(path, "find the shard"))?;
    check_length(path, &metadata, expected)?;
    // SAFETY: no shard may change while a reader lives. Our writer keeps this: a shard gets its name once, when it is
    // complete, and is never written again (`publish::create`); FORMAT.md asks the same of every other program. Against
    // a program that breaks it and cuts the file, `check_whole` is asked before every decode. What remains is a cut during
    // a decode, which ends the process (SIGBUS), and bytes changed in place, which every row's checks may or may not see.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map the shard"))?;
    Ok((Bytes::from_owner(map), metadata))
}

/// Maps the whole shard at `path`, whatever its length.
pub(crate) fn map_all(path: &Path) -> Result<Bytes> {
    Ok(map(path, fs::metadata(path).map_err(Error::io(path, "find the shard"))?.len())?.0)
}

/// Refuses to go on with the map of a shard that has another length by now: pages beyond its end cannot be touched.
/// By its path and not by an open file, of which a cache of many shards would need too many.
pub(crate) fn check_whole(path: &Path, expected: u64) -> Result<()> {
    check_length(path, &fs::metadata(path).map_err(Error::io(path, "find the shard"))?, expected)
}

fn check_length(path: &Path, metadata: &Metadata, expected: u64) -> Result<()> {
    match metadata.len() {
        got if got == expected => Ok(()),
        got => Err(Error::Size { path: path.to_owned(), expected, got }),
    }
}
