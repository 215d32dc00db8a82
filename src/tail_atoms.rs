//! The number of tail atoms of a cache, chosen from a few samples.

use anyhow::{Context, Result};
use logitcask_core::{PositionChoice, RowErrors, Truncation};
use logitcask_data::Dataset;
use logitcask_teach::calibration::Trial;
use logitcask_teach::{Teacher, calibrate, calibration_samples};
use std::ops::RangeInclusive;

/// Numbers of tail atoms to choose from.
pub const RANGE: RangeInclusive<u32> = 3..=8;
/// The largest tolerated error of log Z in nats; the fewest tail atoms that reach it are chosen.
const TOLERATED: f64 = 2e-3;
/// Number of samples from which the number of tail atoms is chosen.
const SAMPLES: u64 = 8;

/// The fewest tail atoms whose error of log Z is at most [`TOLERATED`] over the temperature range, on a few samples of
/// the first split. `keep` is what is kept of a row with a number of atoms.
pub fn choose(
    teacher: &dyn Teacher,
    dataset: &dyn Dataset,
    positions: &PositionChoice,
    batch_tokens: usize,
    keep: &dyn Fn(u32) -> Truncation,
) -> Result<u32> {
    let split = dataset.splits().first().map(|(name, _)| name.clone()).unwrap_or_default();
    let samples = calibration_samples(dataset, &split, SAMPLES, positions)?;
    // The rounding of the kept classes also causes an error, which does not depend on the atoms.
    let keeps: Vec<Truncation> = RANGE.map(|atoms| Truncation { values: Default::default(), ..keep(atoms) }).collect();
    let outcome = calibrate(teacher, &split, &samples, &keeps, batch_tokens).context("the calibration samples")?;
    let is_enough = |kept: &Trial| worst_log_z(&kept.errors) <= TOLERATED;
    let enough = outcome.trials.iter().position(is_enough).unwrap_or(keeps.len() - 1);
    let worst = worst_log_z(&outcome.trials[enough].errors);
    tracing::info!(atoms = keeps[enough].atoms(), worst, tolerated = TOLERATED, "number of tail atoms chosen");
    Ok(RANGE.start() + enough as u32)
}

/// The largest error of log Z at any measured temperature, in nats.
pub fn worst_log_z(errors: &RowErrors) -> f64 {
    errors.log_z.iter().map(|e| e.worst()).fold(0.0, f64::max)
}
