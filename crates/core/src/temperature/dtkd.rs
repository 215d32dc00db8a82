//! Dynamic temperature: teacher and student get the temperatures at which their largest logits are equal.

use super::{AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, TemperaturePair, Temperatures};
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Lower bound as a share of the recipe's temperature, because logits may be close to 0.
const LEAST: f64 = 0.25;

/// Temperatures at which teacher and student are equally sharp (DTKD, 2404.12711).
///
/// T_teacher = 2 x T / (x + y) and T_student = 2 y T / (x + y), with x and y the largest raw logits; T if these are not
/// both positive. It depends on the raw scale: adding a constant to all logits changes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dtkd {}

#[cfg(test)]
impl super::Tested for Dtkd {
    const TESTED: Self = Self {};
}

impl Rule for Dtkd {
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    fn start(&self, _seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(*self)
    }
}

impl AdaptiveTemperature for Dtkd {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::TeacherConfidence, Stat::StudentConfidence])
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        let t = context.temperature;
        let share = |mine: f64, sum: f64| (2.0 * mine * t / sum).max(LEAST * t);
        let pair = |x: f64, y: f64| match x > 0.0 && y > 0.0 {
            true => TemperaturePair { teacher: share(x, x + y), student: share(y, x + y) },
            false => TemperaturePair::same(t),
        };
        Temperatures::PerToken(context.positions.iter().map(|p| pair(p.teacher.largest, p.student.largest)).collect())
    }
}
