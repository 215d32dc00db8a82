//! By whether the teacher is right.

use super::TokenWeighting;
use crate::Schedule;
use crate::temperature::{RequiredStats, StepContext};
use serde::{Deserialize, Serialize};

/// One weight where the label is among the teacher's first `rank` choices, another where it is not: `wrong = 0` leaves the
/// teacher's mistakes out; two lines that cross during the run teach what is easy first. In language most first choices
/// are wrong where several words would do, so there a larger rank makes the better gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// So many first choices are right enough.
    #[serde(default = "first")]
    pub rank: u32,
    /// Weight where the teacher is right.
    #[serde(default = "all")]
    pub right: Schedule,
    /// Weight where it is wrong.
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

impl Gate {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.rank == 0 {
            return Err("rank = 0 lets nothing pass".into());
        }
        for (name, curve) in [("right", self.right), ("wrong", self.wrong)] {
            curve.check()?;
            if curve.range().0 < 0.0 {
                return Err(format!("{name} = {} is no weight", curve.range().0));
            }
        }
        Ok(())
    }
}

impl TokenWeighting for Gate {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::POSITIONS
    }

    fn weights(&mut self, context: &StepContext<'_>) -> Vec<f64> {
        let (right, wrong) = (self.right.at(context.progress), self.wrong.at(context.progress));
        context.positions.iter().map(|p| if p.gold_rank < self.rank { right } else { wrong }).collect()
    }
}
