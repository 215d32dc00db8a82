//! Claims of units by workers: a hint that lets several workers share the work instead of repeating it. A claim is
//! never required, and none outlives its process.

use crate::commit;
use crate::error::{Error, Result};
use crate::names::COMMITS_DIR;
use crate::publish::TEMP_PREFIX;
use crate::writer::{CacheWriter, exists};
use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

/// The answer to a worker that claims a unit.
#[derive(Debug)]
pub enum Claimed {
    /// No other worker has claimed it. Keep the claim until the unit is written.
    Mine(Claim),
    /// Another worker has claimed it. Its lock is released when its process ends, however that happens.
    Elsewhere,
    /// The unit is committed and its shard exists.
    Committed,
}

/// A worker's claim to a unit, released when it is dropped.
#[derive(Debug)]
pub struct Claim {
    /// The file, whose lock is held, and its path.
    held: Option<(PathBuf, File)>,
}

impl Claim {
    /// An empty claim, for a worker that works on a unit without claiming it.
    pub fn none() -> Self {
        Self { held: None }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.held {
            // A file that remains is not a claim, because nobody holds its lock. `CacheWriter::finish` removes it.
            let _ = fs::remove_file(path);
        }
    }
}

impl CacheWriter {
    /// Claims `unit`, before its rows are made. Writing without a claim, or in parallel with another worker, is
    /// harmless: the first commit stands, and the others' work is discarded.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn claim(&self, unit: usize) -> Result<Claimed> {
        if self.is_committed(unit)? {
            return Ok(Claimed::Committed);
        }
        let path = self.folder().join(COMMITS_DIR).join(format!("{TEMP_PREFIX}claim-{unit:05}"));
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(Error::io(&path, "create the claim"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(Claimed::Elsewhere),
            // A file system without locks does not support claims.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let claim = Claim { held: Some((path, file)) };
        // The previous owner may have committed the unit just before it released the claim.
        Ok(if self.is_committed(unit)? { Claimed::Committed } else { Claimed::Mine(claim) })
    }

    /// Whether `unit` has its commit and its shard, which a repair may have removed.
    pub(crate) fn is_committed(&self, unit: usize) -> Result<bool> {
        Ok(commit::exists(self.folder(), unit)? && exists(&self.folder().join(self.shard(unit)))?)
    }
}
