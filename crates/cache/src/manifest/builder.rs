//! Building of a manifest from its commits, part by part: memory holds the commits of one part.

use super::{Manifest, ManifestPart, Totals};
use crate::commit::Commit;
use crate::error_stats::{self, CodecError, LogZError, round};
use crate::json;
use crate::plan::Plan;
use crate::version::FORMAT_VERSION;
use logitcask_core::Fingerprint;

impl ManifestPart {
    /// What the root says of a part with these commits.
    pub(crate) fn of(commits: &[Commit]) -> Self {
        // Saturating, because sums of untrusted numbers must not panic.
        let sum = |of: fn(&Commit) -> u64| commits.iter().map(of).fold(0, u64::saturating_add);
        Self {
            blake3: json::hash(&commits),
            positions: sum(|commit| commit.positions),
            entries: sum(|commit| commit.entries),
            bytes: sum(|commit| commit.bytes),
        }
    }
}

/// The largest of some errors, and their sum weighted by what they are a mean of.
#[derive(Clone, Copy, Default)]
struct ErrorTally {
    worst: f64,
    sum: f64,
}

impl ErrorTally {
    fn add(&mut self, worst: f64, mean: f64, weight: u64) {
        self.worst = self.worst.max(worst);
        self.sum += mean * weight as f64;
    }

    fn mean(&self, weight: u64) -> f64 {
        round(self.sum / (weight as f64).max(1.0))
    }
}

/// A manifest whose parts are added in order.
pub(crate) struct Builder {
    parts: Vec<ManifestPart>,
    rows: u64,
    mass: f64,
    temperatures: Vec<f64>,
    log_z: Vec<ErrorTally>,
    codec: ErrorTally,
}

impl Builder {
    pub(crate) fn new(plan: &Plan) -> Self {
        let temperatures = error_stats::temperatures(plan.keep.tail);
        let log_z = vec![ErrorTally::default(); temperatures.len()];
        Self { parts: Vec::new(), rows: 0, mass: 0.0, temperatures, log_z, codec: ErrorTally::default() }
    }

    /// Adds the next part.
    pub(crate) fn add(&mut self, commits: &[Commit]) -> ManifestPart {
        for commit in commits {
            self.rows = self.rows.saturating_add(commit.rows);
            self.mass += commit.kept_mass * commit.positions as f64;
            for (tally, error) in self.log_z.iter_mut().zip(&commit.log_z_error) {
                tally.add(error.worst, error.mean, commit.positions);
            }
            self.codec.add(commit.codec_error.worst, commit.codec_error.mean, commit.entries);
        }
        let part = ManifestPart::of(commits);
        self.parts.push(part);
        part
    }

    /// The root of the plan with this id.
    pub(crate) fn finish(self, plan_id: Fingerprint) -> Manifest {
        let sum = |of: fn(&ManifestPart) -> u64| self.parts.iter().map(of).fold(0, u64::saturating_add);
        let (positions, entries) = (sum(|part| part.positions), sum(|part| part.entries));
        let log_z = self.temperatures.iter().zip(&self.log_z);
        let log_z = log_z.map(|(&temperature, tally)| LogZError {
            temperature,
            worst: tally.worst,
            mean: tally.mean(positions),
        });
        let totals = Totals {
            rows: self.rows,
            positions,
            entries,
            bytes: sum(|part| part.bytes),
            kept_mass: round(self.mass / positions.max(1) as f64),
            log_z_error: log_z.collect(),
            codec_error: CodecError { worst: self.codec.worst, mean: self.codec.mean(entries) },
        };
        Manifest { format_version: FORMAT_VERSION, plan_id, totals, parts: self.parts }
    }
}
