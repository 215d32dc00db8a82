//! Conversion of a cache to the other layout.

use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::Manifest;
use crate::names::TOKENIZER_NAME;
use crate::plan::{Layout, Plan};
use crate::reader::CacheReader;
use crate::writer::CacheWriter;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes `cache` into `folder` in another layout: the values are identical to the bit, and the files are those that
/// caching into that layout would have produced. An interrupted conversion resumes where it stopped; returns `None` if
/// `stop` was set. `on_unit` is called after every finished unit.
///
/// # Errors
/// Errors of [`CacheWriter::open`], [`CacheWriter::write_unit`] and [`CacheWriter::finish`] for `folder`, and errors in
/// the tokenizer, a companion, a shard or a row of `cache`.
pub fn convert(
    cache: &CacheReader,
    folder: &Path,
    layout: Layout,
    stop: &AtomicBool,
    on_unit: &mut dyn FnMut(),
) -> Result<Option<Manifest>> {
    let tokenizer = json::read_bytes(cache.store(), TOKENIZER_NAME)?;
    let companions = cache.companions()?;
    let writer = CacheWriter::open(folder, Plan { layout, ..cache.plan().clone() }, &tokenizer)?;
    writer.lay_companions(companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    for unit in writer.pending()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let rows: Vec<_> = cache.unit(unit)?.into_iter().map(|row| (row.sample, row.rows)).collect();
        let Commit { log_z_error, codec_error, .. } = cache.commit(unit)?;
        writer.write_measured(unit, &rows, (log_z_error, codec_error))?;
        on_unit();
    }
    writer.finish().map(Some)
}

/// Size in bytes of a shard with these rows; the plan must have a single unit, which contains them.
///
/// # Errors
/// [`Error::Parquet`] if they cannot be encoded. Nothing else is checked.
pub fn shard_bytes(plan: &Plan, rows: &[(logitcask_core::Sample, logitcask_core::SoftRows)]) -> Result<u64> {
    let bytes = crate::codec::encode(plan, plan.id(), 0, rows);
    let path = || Path::new(&plan.shard_name(0)).to_owned();
    Ok(bytes.map_err(|reason| Error::Parquet { path: path(), reason })?.len() as u64)
}
