//! Claims of units by workers: a hint that lets several workers share the work instead of repeating it. A claim is
//! never required, and none outlives its process.

use crate::commit;
use crate::error::Result;
use crate::names::COMMITS_DIR;
use crate::publish::TEMP_PREFIX;
use crate::store::{Claim, exists};
use crate::writer::CacheWriter;

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
        let Some(claim) = self.store().claim(&format!("{COMMITS_DIR}/{TEMP_PREFIX}claim-{unit:05}"))? else {
            return Ok(Claimed::Elsewhere);
        };
        // The previous owner may have committed the unit just before it released the claim.
        Ok(if self.is_committed(unit)? { Claimed::Committed } else { Claimed::Mine(claim) })
    }

    /// Whether `unit` has its commit and its shard, which a repair may have removed.
    pub(crate) fn is_committed(&self, unit: usize) -> Result<bool> {
        Ok(exists(self.store(), &commit::name(unit))? && exists(self.store(), &self.plan().shard_name(unit))?)
    }
}
