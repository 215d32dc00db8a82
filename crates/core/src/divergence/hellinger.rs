//! Squared Hellinger distance, the distance between square roots of probabilities.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use serde::{Deserialize, Serialize};

/// ½ Σ (√p - √q)², the square of the Hellinger distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hellinger {}

impl Settings for Hellinger {
    const DEFAULT: Self = Self {};
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.037_455_009_270_275_355,
        gradient: [
            0.005_383_933_798_743_539,
            -0.014_082_751_153_814_9,
            0.006_919_742_158_303_061,
            0.005_389_100_611_538_637,
            -0.018_259_119_678_853_342,
            0.014_649_094_264_083_007,
        ],
    };
}

impl Properties for Hellinger {}

impl SumOverClasses for Hellinger {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let difference = (log_p * 0.5).exp() - (log_q * 0.5).exp();
        difference.clone() * difference * 0.5
    }
}
