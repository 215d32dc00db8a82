//! What the examples read: the cache whose folder is named, or a tiny one of their own.

#[allow(dead_code, reason = "its `main` belongs to that example")]
#[path = "../write_a_cache.rs"]
mod write_a_cache;

use anyhow::{Context, Result};
use logitcask_cache::CacheReader;
use std::path::Path;
use tempfile::TempDir;

/// Opens the cache in the folder that is the program's first argument. Without one the example `write_a_cache` first fills a
/// temporary folder, which is removed when the second part of the result is dropped.
pub fn open_cache() -> Result<(CacheReader, Option<TempDir>)> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return Ok((CacheReader::open(Path::new(&folder))?, None));
    }
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path().join("cache");
    write_a_cache::write(&folder)?;
    Ok((CacheReader::open(&folder)?, Some(temporary)))
}

/// The first split of a cache, which is `train` where there is such a split.
pub fn first_split(cache: &CacheReader) -> Result<String> {
    Ok(cache.splits().first().context("the cache has no split")?.to_string())
}
