//! Rényi divergence, the logarithm of the overlap of the two distributions.

use super::check_share;
use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use super::tempered::TailPolicy;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// log(Σ p^alpha q^(1 - alpha)) / (alpha - 1), of order alpha within 0..1 (1206.2459). It is forward KL in the limit
/// alpha → 1, and -2 log of the Bhattacharyya coefficient at ½.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Renyi {
    /// The order, below 1: for larger orders a class that the student finds nearly impossible makes the sum almost
    /// infinite.
    pub alpha: f64,
}

impl Settings for Renyi {
    const DEFAULT: Self = Self { alpha: 0.5 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.076_348_940_594_696_55,
        gradient: [
            0.011_186_871_991_639_305,
            -0.029_261_491_752_481_057,
            0.014_378_012_923_961_23,
            0.011_197_607_724_191_786,
            -0.037_939_254_486_194_45,
            0.030_438_253_598_883_178,
        ],
    };
}

impl Properties for Renyi {
    fn check(&self) -> Result<(), ConfigError> {
        check_share("alpha", self.alpha)
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        match policy {
            TailPolicy::Sampled | TailPolicy::Renormalize => Err(policy
                .refused("\"bucket\" or \"uniform\"")
                .because("renyi takes the logarithm of a sum over all classes, which a part of them does not tell")),
            TailPolicy::Bucket | TailPolicy::Uniform => Ok(()),
        }
    }
}

impl SumOverClasses for Renyi {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        (log_p * self.alpha + log_q * (1.0 - self.alpha)).exp()
    }

    fn of_sum<N: Number>(&self, sum: N) -> N {
        sum.ln() * (1.0 / (self.alpha - 1.0))
    }
}
