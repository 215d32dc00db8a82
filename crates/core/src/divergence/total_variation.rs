//! Total variation distance, half of the absolute difference of probabilities.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use serde::{Deserialize, Serialize};

/// ½ Σ |p - q| (2307.15190).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalVariation {}

impl Settings for TotalVariation {
    const DEFAULT: Self = Self {};
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.260_555_177_118_578_06,
        gradient: [
            0.036_200_065_328_903_35,
            -0.039_056_149_573_993_78,
            0.021_956_449_505_580_174,
            0.017_099_700_068_413_604,
            -0.082_681_869_296_971_94,
            0.046_481_803_968_068_586,
        ],
    };
}

impl Properties for TotalVariation {}

impl SumOverClasses for TotalVariation {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        (log_p.exp() - log_q.exp()).abs() * 0.5
    }
}
