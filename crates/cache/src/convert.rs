//! The same rows in the other layout.

use crate::commit::Commit;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::plan::{Layout, Plan};
use crate::reader::CacheReader;
use crate::writer::CacheWriter;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes `cache` into `folder` in another layout: the same values to the bit, and the very files that caching into that
/// layout would have made. A conversion that was stopped goes on where it stopped; `None` where `stop` was raised.
/// `on_unit` hears of every finished unit.
///
/// # Errors
/// What [`CacheWriter::open`], [`CacheWriter::write_unit`] and [`CacheWriter::finish`] refuse about `folder`; what is wrong
/// with the tokenizer, a companion, a shard or a row of `cache`.
pub fn convert(
    cache: &CacheReader,
    folder: &Path,
    layout: Layout,
    stop: &AtomicBool,
    on_unit: &mut dyn FnMut(),
) -> Result<Option<Manifest>> {
    let tokenizer = crate::json::read_bytes(&cache.tokenizer_path())?;
    let companions = cache.companions()?;
    let writer = CacheWriter::open(folder, Plan { layout, ..cache.plan().clone() }, &tokenizer)?;
    writer.lay_companions(companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    for unit in writer.pending()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let rows: Vec<_> = cache.unit(unit)?.into_iter().map(|row| (row.sample, row.rows)).collect();
        let Commit { log_z_error, codec_error, .. } = cache.manifest().shards[unit].clone();
        writer.write_measured(unit, &rows, (log_z_error, codec_error))?;
        on_unit();
    }
    writer.finish().map(Some)
}

/// Bytes that a shard of these rows takes; the plan's only unit must be theirs.
///
/// # Errors
/// [`crate::Error::Parquet`] where they cannot be encoded. Nothing else is checked of them.
pub fn shard_bytes(plan: &Plan, rows: &[(logitcask_core::Sample, logitcask_core::SoftRows)]) -> Result<u64> {
    let bytes = crate::codec::encode(plan, plan.id(), 0, rows);
    let path = || Path::new(&plan.shard_name(0)).to_owned();
    Ok(bytes.map_err(|reason| crate::Error::Parquet { path: path(), reason })?.len() as u64)
}
