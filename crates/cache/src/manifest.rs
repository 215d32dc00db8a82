//! The manifest of a finished cache. Its hash is the cache's id.

use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::error_stats::{self, CodecError, LogZError, round};
use crate::json;
use crate::names::MANIFEST_NAME;
use crate::plan::Plan;
use crate::version::FORMAT_VERSION;
use logitcask_core::{Fingerprint, TailRule};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Every shard of a complete cache: a pure function of plan and commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// [`Plan::id`].
    pub plan_id: Fingerprint,
    /// One commit per unit, in the plan's order.
    pub shards: Vec<Commit>,
    /// Totals over all shards.
    pub totals: Totals,
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
    /// Creates the manifest of the plan with this id.
    pub(crate) fn new(plan: &Plan, plan_id: Fingerprint, shards: Vec<Commit>) -> Self {
        // Saturating, because sums of untrusted numbers must not panic; a saturated sum is rejected for its number of
        // rows anyway.
        let sum = |of: fn(&Commit) -> u64| shards.iter().map(of).fold(0, u64::saturating_add);
        let positions = sum(|c| c.positions);
        let mass: f64 = shards.iter().map(|c| c.kept_mass * c.positions as f64).sum();
        let (log_z_error, codec_error) = merged_errors(&shards, plan.keep.tail);
        let totals = Totals {
            rows: sum(|c| c.rows),
            positions,
            entries: sum(|c| c.entries),
            bytes: sum(|c| c.bytes),
            kept_mass: round(mass / positions.max(1) as f64),
            log_z_error,
            codec_error,
        };
        Self { format_version: FORMAT_VERSION, plan_id, shards, totals }
    }

    /// BLAKE3 of the manifest's RFC 8785 form: the cache's id. Equal roots mean equal rows.
    pub fn cache_id(&self) -> Fingerprint {
        json::hash(self)
    }

    /// Reads the manifest in `folder`, which must be exactly what `plan` and its own commits determine.
    pub(crate) fn read(folder: &Path, plan: &Plan) -> Result<Self> {
        let path = folder.join(MANIFEST_NAME);
        json::check_version(&path)?;
        let manifest: Self = json::read(&path)?;
        let malformed = |problem: String| Error::malformed(&path, problem);
        let id = plan.id();
        if manifest.plan_id != id {
            return Err(malformed(format!("made from plan {}, the plan beside it is {id}", manifest.plan_id)));
        }
        if manifest.shards.len() != plan.units.len() {
            let (got, expected) = (manifest.shards.len(), plan.units.len());
            return Err(malformed(format!("{got} shards, the plan has {expected} units")));
        }
        for (unit, (commit, shard)) in manifest.shards.iter().zip(plan.shard_names()).enumerate() {
            commit.check(plan, unit, &shard).map_err(|problem| Error::malformed(&path, problem))?;
        }
        if Self::new(plan, id, manifest.shards.clone()).totals != manifest.totals {
            return Err(malformed("totals are not the sums of the shards' numbers".into()));
        }
        Ok(manifest)
    }
}

/// The combined errors of all units: the maximum over all, and means weighted by positions and entries.
fn merged_errors(commits: &[Commit], tail: Option<TailRule>) -> (Vec<LogZError>, CodecError) {
    let mean = |of: &dyn Fn(&Commit) -> f64, weight: &dyn Fn(&Commit) -> u64| {
        let total: f64 = commits.iter().map(|c| weight(c) as f64).sum();
        round(commits.iter().map(|c| of(c) * weight(c) as f64).sum::<f64>() / total.max(1.0))
    };
    let worst = |of: &dyn Fn(&Commit) -> f64| commits.iter().map(of).fold(0.0, f64::max);
    let log_z = error_stats::temperatures(tail).into_iter().enumerate().map(|(i, temperature)| LogZError {
        temperature,
        worst: worst(&|c| c.log_z_error[i].worst),
        mean: mean(&|c| c.log_z_error[i].mean, &|c| c.positions),
    });
    let log_z = log_z.collect();
    let entries = |c: &Commit| c.entries;
    (log_z, CodecError { worst: worst(&|c| c.codec_error.worst), mean: mean(&|c| c.codec_error.mean, &entries) })
}
