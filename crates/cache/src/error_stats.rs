//! Measured approximation errors of a cache, as stated in commits and manifests.

use logitcask_core::{RowErrors, TailRule};
use serde::{Deserialize, Serialize};

/// |log Z as a reader gets it - log Z of the full row| at one temperature, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogZError {
    /// Rounded to six decimals.
    pub temperature: f64,
    /// Maximum over all positions.
    pub worst: f64,
    /// Mean over all positions.
    pub mean: f64,
}

/// |log-probability as written - exact log-probability| of the kept classes, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecError {
    /// Maximum over all kept classes.
    pub worst: f64,
    /// Mean over all kept classes.
    pub mean: f64,
}

/// Rounds to nine decimals, which JSON represents without loss and which exceed the precision of f16.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// The temperatures at which a writer measures errors, descending because the inverse temperatures of
/// [`TailRule::grid`] ascend.
pub(crate) fn temperatures(tail: Option<TailRule>) -> Vec<f64> {
    let grid = tail.map(|rule| rule.grid()).unwrap_or_default();
    grid.into_iter().map(|b| (1e6 / b).round() / 1e6).collect()
}

/// Converts a unit's errors to the form that a commit stores.
pub(crate) fn of(errors: &RowErrors, tail: Option<TailRule>) -> (Vec<LogZError>, CodecError) {
    let stated = temperatures(tail).into_iter().zip(&errors.log_z);
    let log_z = stated.map(|(temperature, sum)| LogZError { temperature, worst: sum.worst(), mean: sum.mean() });
    (log_z.collect(), CodecError { worst: errors.codec.worst(), mean: errors.codec.mean() })
}

/// Whether these errors can have been measured with `tail`.
pub(crate) fn fits(log_z: &[LogZError], codec: CodecError, tail: Option<TailRule>) -> bool {
    let plausible = |worst: f64, mean: f64| worst >= 0.0 && mean >= 0.0 && worst.is_finite() && mean <= worst;
    log_z.iter().map(|e| e.temperature).eq(temperatures(tail))
        && log_z.iter().all(|e| plausible(e.worst, e.mean))
        && plausible(codec.worst, codec.mean)
}
