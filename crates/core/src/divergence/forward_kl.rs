//! Forward KL divergence, which penalises the student for missing classes that the teacher finds probable.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use serde::{Deserialize, Serialize};

/// Σ p log(p / q) (1503.02531).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardKl {}

impl Settings for ForwardKl {
    const DEFAULT: Self = Self {};
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.147_647_843_505_066_05,
        gradient: [
            0.025_733_624_398_918_686,
            -0.061_074_288_499_839_24,
            0.026_835_038_426_207_023,
            0.020_899_148_940_081_27,
            -0.069_203_300_059_449_88,
            0.056_809_776_794_082_036,
        ],
    };
}

impl Properties for ForwardKl {}

impl SumOverClasses for ForwardKl {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        (log_p.clone() - log_q).weighted_by(log_p.exp())
    }
}
