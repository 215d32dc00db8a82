//! By whether the teacher is right.

use super::Weigher;
use crate::Curve;
use crate::adapt::{Needs, Scene};
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
    pub right: Curve,
    /// Weight where it is wrong.
    #[serde(default = "nothing")]
    pub wrong: Curve,
}

const fn first() -> u32 {
    1
}
const fn all() -> Curve {
    Curve::Constant(1.0)
}
const fn nothing() -> Curve {
    Curve::Constant(0.0)
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

impl Weigher for Gate {
    fn needs(&self) -> Needs {
        Needs::POSITIONS
    }

    fn weights(&mut self, scene: &Scene<'_>) -> Vec<f64> {
        let (right, wrong) = (self.right.at(scene.done), self.wrong.at(scene.done));
        scene.positions.iter().map(|p| if p.gold_rank < self.rank { right } else { wrong }).collect()
    }
}
