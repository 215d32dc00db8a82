//! The alpha-beta divergence, which weights p and q by separate powers.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Σ (alpha p^(alpha + beta) + beta q^(alpha + beta)) / (alpha beta (alpha + beta)) - p^alpha q^beta / (alpha beta). It
/// equals forward KL at (1, 0), reverse KL at (0, 1) and 4 times the squared Hellinger distance at (½, ½) (2505.04560).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlphaBeta {
    /// Power of p. Larger values emphasise classes of which the teacher is confident.
    pub alpha: f64,
    /// Power of q. Larger values emphasise classes of which the student is confident.
    pub beta: f64,
}

impl Settings for AlphaBeta {
    const DEFAULT: Self = Self { alpha: 0.2, beta: 0.7 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.173_859_896_457_221_55,
        gradient: [
            0.024_588_063_342_422_986,
            -0.064_925_429_204_182_61,
            0.031_911_107_558_966_83,
            0.024_852_395_555_599_198,
            -0.083_981_952_485_268_05,
            0.067_555_815_232_461_64,
        ],
    };
}

impl Properties for AlphaBeta {
    fn check(&self) -> Result<(), ConfigError> {
        [("alpha", self.alpha), ("beta", self.beta)].into_iter().try_for_each(|(name, power)| {
            let check = ConfigError::unless(power > 0.0 && power.is_finite(), name, power, "a positive number");
            check.map_err(|error| error.because("forward_kl and reverse_kl are the limits at 0"))
        })
    }
}

impl SumOverClasses for AlphaBeta {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let Self { alpha, beta } = *self;
        let sum = alpha + beta;
        let both = (log_p.clone() * alpha + log_q.clone() * beta).exp();
        let each = (log_p * sum).exp() * (1.0 / (beta * sum)) + (log_q * sum).exp() * (1.0 / (alpha * sum));
        each + both * (-1.0 / (alpha * beta))
    }
}
