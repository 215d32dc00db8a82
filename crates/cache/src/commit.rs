//! Commits: the record that a worker writes for a unit once its shard is durable.

use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::json;
use crate::names::COMMITS_DIR;
use crate::plan::Plan;
use logitcask_core::{Fingerprint, SoftRows};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    /// Hash of the shard's bytes.
    pub blake3: Fingerprint,
    /// Mean over positions of the total probability of the deterministic classes at T = 1, as stored, to nine decimals.
    pub kept_mass: f64,
    /// Errors at each temperature of the plan's tail rule; empty for a dense cache, which has no tail.
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

/// Path of the commit of `unit`.
pub(crate) fn path(folder: &Path, unit: usize) -> PathBuf {
    folder.join(name(unit))
}

/// Whether `unit` has a commit.
pub(crate) fn exists(folder: &Path, unit: usize) -> Result<bool> {
    let path = path(folder, unit);
    path.try_exists().map_err(Error::io(&path, "look for the commit"))
}

impl Commit {
    /// Reads the commit of `unit`, whose shard has this name, if there is one.
    pub(crate) fn read(folder: &Path, plan: &Plan, unit: usize, shard: &str) -> Result<Option<Self>> {
        if !exists(folder, unit)? {
            return Ok(None);
        }
        let path = path(folder, unit);
        let commit: Self = json::read(&path)?;
        commit.check(plan, unit, shard).map_err(|problem| Error::malformed(&path, problem))?;
        Ok(Some(commit))
    }

    /// Checks that the commit describes `unit` of `plan`, with plausible numbers.
    pub(crate) fn check(&self, plan: &Plan, unit: usize, shard: &str) -> Result<(), CommitError> {
        let expected = &plan.units[unit];
        let place = (self.unit as usize, self.split.as_str(), self.start, self.end, self.shard.as_str());
        let wanted = (unit, expected.split.as_str(), expected.start, expected.end, shard);
        if place != wanted {
            let (got, expected) = (format!("{place:?}"), format!("{wanted:?}"));
            return Err(CommitError::Place { unit, got, expected });
        }
        let [rows, positions, entries] = [self.rows, self.positions, self.entries].map(u128::from);
        let longest = u128::from(plan.max_length) - 1;
        let cap = u128::from(plan.keep.max_kept(plan.vocab_size));
        let fits = rows == u128::from(expected.end - expected.start)
            && (rows..=rows * longest).contains(&positions)
            && (positions..=positions * cap).contains(&entries)
            && (0.0..=1.5).contains(&self.kept_mass)
            && error_stats::fits(&self.log_z_error, self.codec_error, plan.keep.tail);
        if fits { Ok(()) } else { Err(CommitError::Counts { unit, commit: Box::new(self.clone()) }) }
    }
}
