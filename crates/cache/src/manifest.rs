//! The manifest of a finished cache: a root, whose hash is the cache's id, and parts with the commits.

mod builder;

pub(crate) use builder::Builder;

use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError};
use crate::names::{MANIFEST_NAME, PARTS_DIR};
use crate::plan::Plan;
use crate::store::Store;
use crate::{json, names};
use logitcask_core::Fingerprint;
use serde::{Deserialize, Serialize};

/// The root of a complete cache's manifest: a pure function of plan and commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`crate::FORMAT_VERSION`].
    pub format_version: u32,
    /// [`Plan::id`].
    pub plan_id: Fingerprint,
    /// Totals over all shards.
    pub totals: Totals,
    /// The parts, each with the commits of [`Plan::units_per_part`] units.
    pub parts: Vec<ManifestPart>,
}

/// What the root says of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestPart {
    /// Hash of the part's JSON value.
    pub blake3: Fingerprint,
    /// Number of positions of its shards.
    pub positions: u64,
    /// Number of kept classes of its shards.
    pub entries: u64,
    /// Total length of its shards in bytes.
    pub bytes: u64,
}

/// Totals over all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Number of samples.
    pub rows: u64,
    /// Number of positions.
    pub positions: u64,
    /// Number of kept classes.
    pub entries: u64,
    /// Total length of the shards in bytes.
    pub bytes: u64,
    /// Mean over positions of the kept probability at T = 1, to nine decimals.
    pub kept_mass: f64,
    /// Error of log Z at other temperatures, measured against every full row when it was written.
    pub log_z_error: Vec<LogZError>,
    /// Rounding error of the kept log-probabilities.
    pub codec_error: CodecError,
}

impl Manifest {
    /// BLAKE3 of the root's RFC 8785 form: the cache's id. Since the root has the hash of every part, and a part those of
    /// its shards, equal ids mean equal rows.
    pub fn cache_id(&self) -> Fingerprint {
        json::hash(self)
    }

    /// Reads the root, which must be one that `plan` can have.
    pub(crate) fn read(store: &dyn Store, plan: &Plan) -> Result<Self> {
        let manifest: Self = json::read_versioned(store, MANIFEST_NAME)?;
        match manifest.problem(plan) {
            None => Ok(manifest),
            Some(problem) => Err(Error::malformed(&store.path(MANIFEST_NAME), problem)),
        }
    }

    /// What is wrong with the root of a cache of this plan, as far as the parts are not needed to tell.
    fn problem(&self, plan: &Plan) -> Option<String> {
        let id = plan.id();
        if self.plan_id != id {
            return Some(format!("made from plan {}, the plan beside it is {id}", self.plan_id));
        }
        if self.parts.len() != plan.part_count() {
            return Some(format!("{} parts, the plan's units make {}", self.parts.len(), plan.part_count()));
        }
        let Totals { rows, positions, entries, bytes, kept_mass, log_z_error, codec_error } = &self.totals;
        let samples = plan.splits.iter().map(|split| split.samples).sum::<u64>();
        let fits = *rows == samples
            && (0.0..=1.5).contains(kept_mass)
            && error_stats::fits(log_z_error, *codec_error, plan.keep.tail);
        if !fits {
            return Some(format!("totals that the plan does not allow ({:?})", self.totals));
        }
        let sum = |of: fn(&ManifestPart) -> u64| self.parts.iter().map(of).fold(0, u64::saturating_add);
        let sums = [sum(|part| part.positions), sum(|part| part.entries), sum(|part| part.bytes)];
        (sums != [*positions, *entries, *bytes]).then(|| "totals are not the sums of the parts' numbers".to_owned())
    }

    /// Reads a part, which must be the one that the root names.
    pub(crate) fn part(&self, store: &dyn Store, plan: &Plan, part: usize) -> Result<Vec<Commit>> {
        let (commits, found) = read_part(store, plan, part)?;
        let ManifestPart { blake3: expected, .. } = self.parts[part];
        if found.blake3 != expected {
            return Err(Error::Checksum { path: store.path(&part_name(part)), expected, got: found.blake3 });
        }
        let problem = if found == self.parts[part] { self.contradiction(&commits) } else { Some("other sums") };
        match problem {
            None => Ok(commits),
            Some(problem) => {
                let problem = format!("{problem} than {MANIFEST_NAME} says");
                Err(Error::malformed(&store.path(&part_name(part)), problem))
            }
        }
    }

    /// How commits of a part contradict the totals, if they do.
    fn contradiction(&self, commits: &[Commit]) -> Option<&'static str> {
        let Totals { log_z_error, codec_error, .. } = &self.totals;
        let is_within = |commit: &Commit| {
            commit.codec_error.worst <= codec_error.worst
                && commit.log_z_error.iter().zip(log_z_error).all(|(here, all)| here.worst <= all.worst)
        };
        (!commits.iter().all(is_within)).then_some("larger errors")
    }
}

/// Path of a part relative to the cache's folder.
pub(crate) fn part_name(part: usize) -> String {
    format!("{PARTS_DIR}/{part:05}.json")
}

/// The part with this path, if it has the form of one.
pub(crate) fn part_number(name: &str) -> Option<usize> {
    names::number_in(name, PARTS_DIR, part_name)
}

/// Reads a part whose commits are those of its units in `plan`, and what a root should say of it.
pub(crate) fn read_part(store: &dyn Store, plan: &Plan, part: usize) -> Result<(Vec<Commit>, ManifestPart)> {
    let name = part_name(part);
    let commits: Vec<Commit> = json::read(store, &name)?;
    let malformed = |problem: String| Error::malformed(&store.path(&name), problem);
    let units = plan.units_of_part(part);
    if commits.len() != units.len() {
        return Err(malformed(format!("{} commits, {} units belong there", commits.len(), units.len())));
    }
    for (unit, commit) in units.zip(&commits) {
        commit.check(plan, unit).map_err(|problem| malformed(problem.to_string()))?;
    }
    let found = ManifestPart::of(&commits);
    Ok((commits, found))
}
