//! The temperature at which a soft label has a given entropy.

use super::{
    AdaptiveTemperature, RequiredStats, Rule, StepContext, TemperaturePair, Temperatures, check_positive,
};
use crate::ConfigError;
use crate::soft_row::SoftRow;
use serde::{Deserialize, Serialize};

/// Maximum number of Newton steps; four are nearly always enough.
const STEPS: u32 = 40;
/// Tolerance in nats.
const MET: f64 = 1e-6;

/// A temperature per position at which every soft label has the same entropy (2605.20357).
///
/// Every position gets the temperature at which the teacher's entropy is `nats`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// Target entropy in nats.
    pub nats: f64,
}

#[cfg(test)]
impl super::Tested for Entropy {
    const TESTED: Self = Self { nats: 2.0 };
}

impl Rule for Entropy {
    fn check(&self) -> Result<(), ConfigError> {
        check_positive("nats", self.nats)
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(*self)
    }
}

impl AdaptiveTemperature for Entropy {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of_target_entropy(self.nats)
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        Temperatures::PerToken(context.positions.iter().map(|p| TemperaturePair::same(p.target_temperature)).collect())
    }
}

/// Returns the temperature within `range` at which the entropy of `row` is closest to `nats`. Uses Newton's method with
/// dH/dT = Var_b\[z\] / T³ on a bracket: entropy grows with the temperature.
pub fn temperature_of_entropy(row: &SoftRow<'_>, nats: f64, range: (f64, f64)) -> f64 {
    let (mut low, mut high) = range;
    let mut t = 1f64.clamp(low, high);
    for _ in 0..STEPS {
        let off = row.entropy(t) - nats;
        if off.abs() < MET || high - low < 1e-9 {
            break;
        }
        if off > 0.0 {
            high = t
        } else {
            low = t
        }
        let (_, std) = row.logit_moments(1.0 / t);
        let newton = t - off * t.powi(3) / (std * std);
        t = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
    }
    t
}
