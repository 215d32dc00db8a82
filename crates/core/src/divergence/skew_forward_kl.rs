//! Skewed forward KL: the teacher against a mixture that contains the teacher, which keeps it finite.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use crate::ConfigError;
use serde::{Deserialize, Serialize};
use super::check_share;

/// KL(p || lambda p + (1 - lambda) q) (2402.03898).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SkewForwardKl {
    /// The teacher's share of the mixture, within 0..1.
    pub lambda: f64,
}

impl Settings for SkewForwardKl {
    const DEFAULT: Self = Self { lambda: 0.1 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.119_387_662_222_218_5,
        gradient: [
            0.019_424_105_095_460_168,
            -0.046_956_076_201_515_68,
            0.021_660_553_741_441_84,
            0.016_869_256_215_595_155,
            -0.056_853_231_481_453_56,
            0.045_855_392_630_472_114,
        ],
    };
}

impl Properties for SkewForwardKl {
    fn check(&self) -> Result<(), ConfigError> {
        check_share("lambda", self.lambda)
    }
}

impl SumOverClasses for SkewForwardKl {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let log_m = N::log_mix(self.lambda, log_p.clone(), log_q);
        (log_p.clone() - log_m).weighted_by(log_p.exp())
    }
}
