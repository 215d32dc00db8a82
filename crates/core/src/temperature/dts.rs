//! One temperature that decreases along half a cosine, more slowly while the student is behind.

use super::{
    AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, StepFeedback, TemperaturePair, Temperatures, check_range,
};
use crate::ConfigError;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Weight of the last temperature in the next one.
const MOMENTUM: f64 = 0.9;

/// Effect of the student's lag on the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boost {
    /// 1 + log(1 + gap): the larger the lag, the higher the temperature, as the paper's text describes.
    #[default]
    Monotone,
    /// 1 + a with a = log(gap) / (log(gap) + 1) where a > 1: the rule as published. It only takes effect for gaps
    /// *below* 1/e, and is unbounded near 1/e.
    Published,
}

/// One temperature that decreases during the run, more slowly while the student is far behind the teacher (DTS,
/// 2511.13767).
///
/// T moves a tenth of the way at each step towards temperature · ½ (1 + cos(pi · progress)) · boost, and stays within
/// lowest..highest. The gap is the student's mean cross entropy minus the teacher's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dts {
    /// Lower bound of the temperature.
    pub lowest: f64,
    /// Upper bound of the temperature.
    pub highest: f64,
    /// Effect of the student's lag.
    #[serde(default)]
    pub boost: Boost,
}

#[cfg(test)]
impl super::Tested for Dts {
    const TESTED: Self = Self { lowest: 1.0, highest: 9.0, boost: Boost::Monotone };
}

impl Rule for Dts {
    fn check(&self) -> Result<(), ConfigError> {
        check_range(self.lowest, self.highest)
    }

    fn range(&self) -> Option<(f64, f64)> {
        Some((self.lowest, self.highest))
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(State { rule: *self, temperature: 0.0, gap: 0.0 })
    }
}

impl Dts {
    fn boost(&self, gap: f64) -> f64 {
        match self.boost {
            Boost::Monotone => 1.0 + gap.max(0.0).ln_1p(),
            Boost::Published => {
                let log = gap.max(f64::MIN_POSITIVE).ln();
                let a = log / (log + 1.0);
                if a > 1.0 { 1.0 + a } else { 1.0 }
            }
        }
    }
}

/// State of the rule.
struct State {
    rule: Dts,
    /// Temperature of the last step; 0 before the first.
    temperature: f64,
    gap: f64,
}

impl AdaptiveTemperature for State {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::CrossEntropy])
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        let Dts { lowest, highest, .. } = self.rule;
        let envelope = context.temperature * 0.5 * (1.0 + (PI * context.progress).cos());
        let target = (envelope * self.rule.boost(self.gap)).clamp(lowest, highest);
        let last = if self.temperature == 0.0 { context.temperature.clamp(lowest, highest) } else { self.temperature };
        self.temperature = MOMENTUM * last + (1.0 - MOMENTUM) * target;
        Temperatures::Shared(TemperaturePair::same(self.temperature))
    }

    fn observe(&mut self, outcome: &StepFeedback<'_>) {
        self.gap = outcome.cross_entropy - outcome.teacher_cross_entropy;
    }

    fn state(&self) -> Vec<f64> {
        vec![self.temperature, self.gap]
    }

    fn restore(&mut self, state: &[f64]) -> bool {
        let [temperature, gap] = *state else { return false };
        (self.temperature, self.gap) = (temperature, gap);
        true
    }
}
