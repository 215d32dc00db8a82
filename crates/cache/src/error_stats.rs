//! How exact a cache is: errors that the writer measured on every row, as commits and manifests state them.

use logitcask_core::{RowErrors, TailRule};
use serde::{Deserialize, Serialize};

/// |log Z as a reader gets it - log Z of the full row| at one temperature, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogZError {
    /// To six decimals.
    pub temperature: f64,
    /// Over all positions.
    pub worst: f64,
    /// Over all positions.
    pub mean: f64,
}

/// |log-probability as written - log-probability| of the kept classes, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecError {
    /// Over all kept classes.
    pub worst: f64,
    /// Over all kept classes.
    pub mean: f64,
}

/// Nine decimals: what JSON carries without loss, and more than f16 knows.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// The temperatures at which a writer measures, descending as the inverse temperatures of [`TailRule::grid`] ascend.
pub(crate) fn temperatures(tail: Option<TailRule>) -> Vec<f64> {
    let grid = tail.map(|rule| rule.grid()).unwrap_or_default();
    grid.into_iter().map(|b| (1e6 / b).round() / 1e6).collect()
}

/// A unit's errors in the form a commit states them.
pub(crate) fn of(errors: &RowErrors, tail: Option<TailRule>) -> (Vec<LogZError>, CodecError) {
    let stated = temperatures(tail).into_iter().zip(&errors.log_z);
    let log_z = stated.map(|(temperature, sum)| LogZError { temperature, worst: sum.worst(), mean: sum.mean() });
    (log_z.collect(), CodecError { worst: errors.codec.worst(), mean: errors.codec.mean() })
}

/// Are these errors that can have been measured with `tail`?
pub(crate) fn fits(log_z: &[LogZError], codec: CodecError, tail: Option<TailRule>) -> bool {
    let plausible = |worst: f64, mean: f64| worst >= 0.0 && mean >= 0.0 && worst.is_finite() && mean <= worst;
    log_z.iter().map(|e| e.temperature).eq(temperatures(tail))
        && log_z.iter().all(|e| plausible(e.worst, e.mean))
        && plausible(codec.worst, codec.mean)
}
