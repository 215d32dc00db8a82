//! Commits: the record that a worker writes for a unit once its shard is durable.

use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::names::COMMITS_DIR;
use crate::plan::{MAX_UNIT_BLOCKS, Plan};
use crate::ranges::ShardRange;
use crate::store::{Store, exists};
use crate::{json, names};
use logitcask_core::SoftRows;
use serde::{Deserialize, Serialize};

/// The record of one written unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The unit's index in the plan.
    pub unit: u32,
    /// The unit's split.
    pub split: String,
    /// First sample id.
    pub start: u64,
    /// One past the last sample id.
    pub end: u64,
    /// Path of the shard relative to the cache's folder.
    pub shard: String,
    /// Number of samples, one row each.
    pub rows: u64,
    /// Number of positions of all rows.
    pub positions: u64,
    /// Number of kept classes of all positions.
    pub entries: u64,
    /// The shard's length in bytes.
    pub bytes: u64,
    /// Lengths and hashes of the shard's ranges: one for each row group, then the rest.
    pub ranges: Vec<ShardRange>,
    /// Mean over positions of the total probability of the deterministic classes at T = 1, as stored, to nine decimals.
    pub kept_mass: f64,
    /// Errors at each temperature of the plan's tail rule; empty without one: for a dense cache, which has no tail, and for
    /// a source that told no shape of it.
    pub log_z_error: Vec<LogZError>,
    /// Errors over all entries.
    pub codec_error: CodecError,
}

/// A commit that does not fit its unit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("unit {unit} is {got}, the plan says {expected}")]
    Place { unit: usize, got: String, expected: String },
    #[error("unit {unit}: counts that the plan does not allow ({commit:?})")]
    Counts { unit: usize, commit: Box<Commit> },
    #[error(
        "unit {unit}: {ranges} ranges of {covered} bytes in all, a range for each row group and one for the rest make {bytes}"
    )]
    Ranges { unit: usize, ranges: usize, covered: u128, bytes: u64 },
}

/// The counts of a commit, accumulated sample by sample in order.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) positions: u64,
    pub(crate) entries: u64,
    mass: f64,
}

impl Tally {
    pub(crate) fn add(&mut self, soft: &SoftRows) {
        self.rows += 1;
        self.positions += soft.len() as u64;
        self.entries += soft.class_ids.len() as u64;
        self.mass += soft.iter().map(|row| row.kept_mass()).sum::<f64>();
    }

    /// [`Commit::kept_mass`].
    pub(crate) fn kept_mass(&self) -> f64 {
        error_stats::round(self.mass / self.positions.max(1) as f64)
    }
}

/// Path of the commit of `unit` relative to the cache's folder.
pub(crate) fn name(unit: usize) -> String {
    format!("{COMMITS_DIR}/{unit:05}.json")
}

/// The unit of the commit with this path, if it has the form of one.
pub(crate) fn number(name: &str) -> Option<usize> {
    names::number_in(name, COMMITS_DIR, self::name)
}

impl Commit {
    /// Reads the commit of `unit`, if there is one.
    pub(crate) fn read(store: &dyn Store, plan: &Plan, unit: usize) -> Result<Option<Self>> {
        let name = name(unit);
        if !exists(store, &name)? {
            return Ok(None);
        }
        let commit: Self = json::read(store, &name)?;
        commit.check(plan, unit).map_err(|problem| Error::malformed(&store.path(&name), problem))?;
        Ok(Some(commit))
    }

    /// Checks that the commit describes `unit` of `plan`, with plausible numbers.
    pub(crate) fn check(&self, plan: &Plan, unit: usize) -> Result<(), CommitError> {
        let (expected, shard) = (plan.unit(unit), plan.shard_name(unit));
        let place = (self.unit as usize, self.split.as_str(), self.start, self.end, self.shard.as_str());
        let wanted = (unit, expected.split, expected.start, expected.end, shard.as_str());
        if place != wanted {
            let (got, expected) = (format!("{place:?}"), format!("{wanted:?}"));
            return Err(CommitError::Place { unit, got, expected });
        }
        let [rows, positions, entries] = [self.rows, self.positions, self.entries].map(u128::from);
        let longest = u128::from(plan.max_length) - 1;
        let cap = u128::from(plan.keep.max_kept(plan.vocab_size));
        let fits = rows == u128::from(expected.samples())
            && (rows..=rows * longest).contains(&positions)
            && (positions..=positions * cap).contains(&entries)
            && (0.0..=1.5).contains(&self.kept_mass)
            && error_stats::fits(&self.log_z_error, self.codec_error, plan.keep.tail);
        if !fits {
            return Err(CommitError::Counts { unit, commit: Box::new(self.clone()) });
        }
        let groups = self.ranges.len().saturating_sub(1) as u64;
        let covered: u128 = self.ranges.iter().map(|range| u128::from(range.bytes)).sum();
        let is_covered = (1..=self.rows.min(MAX_UNIT_BLOCKS)).contains(&groups) && covered == u128::from(self.bytes);
        if is_covered && self.ranges.iter().all(|range| range.bytes > 0) {
            return Ok(());
        }
        Err(CommitError::Ranges { unit, ranges: self.ranges.len(), covered, bytes: self.bytes })
    }
}
