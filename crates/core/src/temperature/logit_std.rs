//! Temperatures proportional to the standard deviation of the logits.

use super::{AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, TemperaturePair, Temperatures};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// The recipe's temperature times the standard deviation of the logits, for teacher and student separately (NormKD,
/// 2308.00520; logit standardisation, 2403.01427).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitStd {}

#[cfg(test)]
impl super::Tested for LogitStd {
    const TESTED: Self = Self {};
}

impl Rule for LogitStd {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(*self)
    }
}

impl AdaptiveTemperature for LogitStd {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::TeacherLogitStd])
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        Temperatures::TimesLogitStd { pair: TemperaturePair::same(context.temperature), range: (0.0, f64::INFINITY) }
    }
}
