//! Skewed reverse KL: the student against a mixture that contains the student, which keeps it finite.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use crate::ConfigError;
use serde::{Deserialize, Serialize};
use super::check_share;
use super::tempered::{TailPolicy, refuse_renormalized};

/// KL(q || lambda q + (1 - lambda) p) (2402.03898).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SkewReverseKl {
    /// The student's share of the mixture, within 0..1.
    pub lambda: f64,
}

impl Settings for SkewReverseKl {
    const DEFAULT: Self = Self { lambda: 0.1 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.122_565_600_825_471_3,
        gradient: [
            0.015_507_396_238_414_305,
            -0.043_606_898_511_415_3,
            0.022_871_240_457_643_636,
            0.017_812_139_978_227_26,
            -0.061_002_294_591_653_974,
            0.048_418_416_428_784_06,
        ],
    };
}

impl Properties for SkewReverseKl {
    fn check(&self) -> Result<(), ConfigError> {
        check_share("lambda", self.lambda)
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        refuse_renormalized("skew_reverse_kl", policy)
    }
}

impl SumOverClasses for SkewReverseKl {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let log_m = N::log_mix(self.lambda, log_q.clone(), log_p);
        (log_q.clone() - log_m).weighted_by(log_q.exp())
    }
}
