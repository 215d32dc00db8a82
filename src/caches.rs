//! Opening a cache: mapped, as every command reads it.

use logitcask_cache::{CacheReader, Result, Storage};
use std::path::Path;

/// Opens the cache in `folder`.
pub fn open(folder: &Path) -> Result<CacheReader> {
    // SAFETY: no command writes a shard again once it has its name, and FORMAT.md asks the same of every other program. Whoever
    // cuts one nevertheless is noticed before the next decode, or ends this process, which has nothing to lose: whatever it
    // writes is complete before it gets its name.
    CacheReader::open_with(folder, unsafe { Storage::mapped() })
}

/// [`open`], and every shard is there with its length, every companion with its bytes.
pub fn open_whole(folder: &Path) -> Result<CacheReader> {
    let cache = open(folder)?;
    cache.check_lengths()?;
    cache.companions()?;
    Ok(cache)
}
