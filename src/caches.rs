//! Opens caches, memory-mapped, for every command.

use logitcask_cache::{CacheReader, Result, Storage};
use std::path::Path;

/// Opens the cache in `folder`.
pub fn open(folder: &Path) -> Result<CacheReader> {
    // SAFETY: no command changes a shard once it has its name, and FORMAT.md requires the same of every other program.
    // If a program truncates one nevertheless, the reader notices it before the next decode, or the process dies. No
    // data is lost then: every file that this program writes is complete before it gets its name.
    CacheReader::open_with(folder, unsafe { Storage::mapped() })
}

/// [`open`], after a check that every shard exists and has its length, and that every companion has its hash.
pub fn open_whole(folder: &Path) -> Result<CacheReader> {
    let cache = open(folder)?;
    cache.check_lengths()?;
    cache.companions()?;
    Ok(cache)
}
