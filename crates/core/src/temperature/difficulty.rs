//! T + beta (mean of w - w): harder positions, which have a larger w, get a lower temperature.

use super::{
    AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, TemperaturePair, Temperatures, TokenStats, check_positive,
};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Lower bound as a share of the recipe's temperature: with a large beta the formula itself passes through 0.
const LEAST: f64 = 0.1;

/// Measure of a position's difficulty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// (1 - cosine of the two vectors of raw logits)^gamma (FLSW), over the kept classes. This is the paper's measure
    /// if all classes are kept.
    Cosine,
    /// 1 / the student's largest probability (CWSM).
    #[default]
    Confidence,
}

/// Lower temperatures for harder positions (KA + DTD, 1911.07471).
///
/// The mean temperature over a step is the recipe's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Difficulty {
    /// Measure of a position's difficulty.
    pub measure: Measure,
    /// Strength of the effect.
    pub beta: f64,
    /// Exponent of the cosine distance; ignored by the other measure.
    pub gamma: f64,
}

impl Default for Difficulty {
    fn default() -> Self {
        Self { measure: Measure::default(), beta: 1.0, gamma: 2.0 }
    }
}

#[cfg(test)]
impl super::Tested for Difficulty {
    const TESTED: Self = Self { measure: Measure::Cosine, beta: 1.0, gamma: 2.0 };
}

impl Rule for Difficulty {
    fn check(&self) -> Result<(), ConfigError> {
        check_positive("beta", self.beta)?;
        check_positive("gamma", self.gamma)
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(*self)
    }
}

impl Difficulty {
    fn weight(&self, position: &TokenStats) -> f64 {
        match self.measure {
            Measure::Cosine => (1.0 - position.cosine).max(0.0).powf(self.gamma),
            Measure::Confidence => 1.0 / position.student.confidence(),
        }
    }
}

impl AdaptiveTemperature for Difficulty {
    fn required_stats(&self) -> RequiredStats {
        match self.measure {
            Measure::Cosine => RequiredStats::of(&[Stat::Cosine]),
            Measure::Confidence => RequiredStats::of(&[Stat::StudentConfidence]),
        }
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        let weights: Vec<f64> = context.positions.iter().map(|p| self.weight(p)).collect();
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        let t = context.temperature;
        let pair = |w: &f64| TemperaturePair::same((t + self.beta * (mean - w)).max(LEAST * t));
        Temperatures::PerToken(weights.iter().map(pair).collect())
    }
}
