//! Weights that depend on whether the teacher is right.

use super::{Rule, TokenWeighting};
use crate::temperature::{RequiredStats, Stat, StepContext};
use crate::{ConfigError, Schedule};
use serde::{Deserialize, Serialize};

/// Weights that depend on whether the teacher is right (bias elimination and dynamic loss, 2412.09874).
///
/// One weight applies if the label is among the teacher's first `rank` choices, another if it is not: `wrong = 0`
/// removes the teacher's mistakes; two linear schedules that cross during the run teach the easy positions first. In
/// language most wrong first choices are at positions where several words fit, so a larger rank makes a better gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Number of first choices that count as right.
    #[serde(default = "first")]
    pub rank: u32,
    /// Weight of positions where the teacher is right.
    #[serde(default = "all")]
    pub right: Schedule,
    /// Weight of positions where it is wrong.
    #[serde(default = "nothing")]
    pub wrong: Schedule,
}

const fn first() -> u32 {
    1
}
const fn all() -> Schedule {
    Schedule::Constant(1.0)
}
const fn nothing() -> Schedule {
    Schedule::Constant(0.0)
}

impl Rule for Gate {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.rank > 0, "rank", self.rank, "at least 1")?;
        for (name, curve) in [("right", self.right), ("wrong", self.wrong)] {
            curve.check().map_err(|error| error.within(name))?;
            ConfigError::unless(curve.range().0 >= 0.0, name, curve.range().0, "a weight, 0 or more")?;
        }
        Ok(())
    }

    fn start(&self) -> Box<dyn TokenWeighting> {
        Box::new(*self)
    }
}

impl TokenWeighting for Gate {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::TeacherLabel])
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let (right, wrong) = (self.right.at(context.progress), self.wrong.at(context.progress));
        context.positions.iter().map(|p| if p.gold_rank < self.rank { right } else { wrong }).collect()
    }
}
