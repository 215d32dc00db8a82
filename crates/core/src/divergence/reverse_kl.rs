//! Reverse KL divergence, which penalises the student for classes that the teacher finds improbable.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use crate::ConfigError;
use serde::{Deserialize, Serialize};
use super::tempered::{TailPolicy, refuse_renormalized};

/// Σ q log(q / p) (2306.08543).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReverseKl {}

impl Settings for ReverseKl {
    const DEFAULT: Self = Self {};
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.154_490_855_674_486_42,
        gradient: [
            0.017_214_310_633_018_034,
            -0.053_842_270_198_350_85,
            0.029_524_257_176_513_177,
            0.022_993_514_608_670_01,
            -0.078_392_665_153_005_61,
            0.062_502_852_933_155_29,
        ],
    };
}

impl Properties for ReverseKl {
    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        refuse_renormalized("reverse_kl", policy)
    }
}

impl SumOverClasses for ReverseKl {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        (log_q.clone() - log_p).weighted_by(log_q.exp())
    }
}
