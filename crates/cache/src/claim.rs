//! Which worker is at a unit: a hint, so that several share the work instead of repeating it. Nobody needs to hold one, and
//! none outlives its process.

use crate::commit;
use crate::error::{Error, Result};
use crate::names::COMMITS_DIR;
use crate::publish::TEMP_PREFIX;
use crate::writer::{CacheWriter, exists};
use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

/// What a worker that asks for a unit is told.
#[derive(Debug)]
pub enum Claimed {
    /// Nobody else is at it. Keep the claim until the unit is written.
    Mine(Claim),
    /// Another worker is at it. Its lock goes with its process, however that ends.
    Elsewhere,
    /// It is committed, and its shard is there.
    Committed,
}

/// A worker's claim to a unit, given back when it is dropped.
#[derive(Debug)]
pub struct Claim {
    /// The file, which holds the lock, and its path.
    held: Option<(PathBuf, File)>,
}

impl Claim {
    /// Of a worker that goes on beside another's claim.
    pub fn none() -> Self {
        Self { held: None }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.held {
            // A file that stays is no claim: nobody holds its lock. `CacheWriter::finish` removes it.
            let _ = fs::remove_file(path);
        }
    }
}

impl CacheWriter {
    /// Asks for `unit`, before its rows are made. Writing without a claim, or beside another's, is harmless: who commits
    /// first is right, and the others' work is lost.
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
            // A file system without locks has no hints either.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let claim = Claim { held: Some((path, file)) };
        // Its last owner may have committed it just before giving the claim back.
        Ok(if self.is_committed(unit)? { Claimed::Committed } else { Claimed::Mine(claim) })
    }

    /// Has `unit` its commit and, unless a repair took it away, its shard?
    pub(crate) fn is_committed(&self, unit: usize) -> Result<bool> {
        Ok(commit::exists(self.folder(), unit)? && exists(&self.folder().join(self.shard(unit)))?)
    }
}
