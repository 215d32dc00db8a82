//! Inverse difficulty: T exp(-c s) with s = tanh(log(distance / median distance)).

use super::{
    AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, TemperaturePair, Temperatures, check_positive,
};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Lower temperatures for tokens far from the teacher, higher ones for tokens near it (IDTS of AdaKD, 2510.11615).
///
/// Tokens at which the student is far from the teacher get a temperature down to T e^-c; near ones get up to T e^c.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idts {
    /// The constant c, the strength of the effect.
    pub strength: f64,
    /// Inverts the effect, which the paper shows to be worse.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inverted: bool,
}

impl Default for Idts {
    fn default() -> Self {
        Self { strength: 0.5, inverted: false }
    }
}

#[cfg(test)]
impl super::Tested for Idts {
    const TESTED: Self = Self { strength: 0.5, inverted: false };
}

impl Rule for Idts {
    fn check(&self) -> Result<(), ConfigError> {
        check_positive("strength", self.strength)
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(*self)
    }
}

/// Lower bound of distances, since the logarithm of 0 is not finite.
const LEAST: f64 = 1e-6;

impl AdaptiveTemperature for Idts {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::Distance])
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        let distances: Vec<f64> = context.positions.iter().map(|p| p.distance.max(LEAST)).collect();
        let median = median(&distances);
        let sign = if self.inverted { self.strength } else { -self.strength };
        let pair = |s: &f64| TemperaturePair::same(context.temperature * (sign * (s / median).ln().tanh()).exp());
        Temperatures::PerToken(distances.iter().map(pair).collect())
    }
}

/// The median, which is the mean of the two middle values if their number is even; 1 for an empty slice.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 1.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}
