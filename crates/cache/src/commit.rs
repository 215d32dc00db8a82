//! What a worker says of a unit once its shard is durable.

use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::json;
use crate::names::COMMITS_DIR;
use crate::plan::Plan;
use logitcask_core::{Fingerprint, SoftRows};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One unit, written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Its index in the plan.
    pub unit: u32,
    /// Its split.
    pub split: String,
    /// Its first sample id.
    pub start: u64,
    /// One past its last sample id.
    pub end: u64,
    /// Path of its shard below the cache's folder.
    pub shard: String,
    /// Samples, one row each.
    pub rows: u64,
    /// Positions of all rows.
    pub positions: u64,
    /// Kept classes of all positions.
    pub entries: u64,
    /// The shard's length.
    pub bytes: u64,
    /// Hash of the shard's bytes.
    pub blake3: Fingerprint,
    /// Mean over positions of the probability that the deterministic classes hold at T = 1, as stored, to nine decimals.
    pub kept_mass: f64,
    /// At each temperature of the plan's tail rule; nothing for a dense cache, which has no tail.
    pub log_z_error: Vec<LogZError>,
    /// Over all entries.
    pub codec_error: CodecError,
}

/// A commit that cannot be of its unit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("unit {unit} is {got}, the plan says {expected}")]
    Place { unit: usize, got: String, expected: String },
    #[error("unit {unit}: counts that the plan does not allow ({commit:?})")]
    Counts { unit: usize, commit: Box<Commit> },
}

/// What a commit counts, added up sample by sample in their order.
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

/// Path below a cache's folder of the commit of `unit`.
pub(crate) fn name(unit: usize) -> String {
    format!("{COMMITS_DIR}/{unit:05}.json")
}

/// Where the commit of `unit` lives.
pub(crate) fn path(folder: &Path, unit: usize) -> PathBuf {
    folder.join(name(unit))
}

/// Was `unit` committed?
pub(crate) fn exists(folder: &Path, unit: usize) -> Result<bool> {
    let path = path(folder, unit);
    path.try_exists().map_err(Error::io(&path, "look for the commit"))
}

impl Commit {
    /// The commit of `unit`, whose shard has this name, if there is one.
    pub(crate) fn read(folder: &Path, plan: &Plan, unit: usize, shard: &str) -> Result<Option<Self>> {
        if !exists(folder, unit)? {
            return Ok(None);
        }
        let path = path(folder, unit);
        let commit: Self = json::read(&path)?;
        commit.check(plan, unit, shard).map_err(|problem| Error::malformed(&path, problem))?;
        Ok(Some(commit))
    }

    /// Does this speak of `unit` of `plan`, in numbers that can be true?
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
