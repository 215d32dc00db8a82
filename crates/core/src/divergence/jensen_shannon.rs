//! Generalised Jensen-Shannon divergence: teacher and student are each compared with their mixture.

use super::formula::{Properties, Settings, SumOverClasses};
use super::number::Number;
use crate::ConfigError;
use serde::{Deserialize, Serialize};
use super::check_share;
use super::tempered::{TailPolicy, refuse_renormalized};

/// beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q (2306.13649).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JensenShannon {
    /// The teacher's share of m, within 0..1.
    pub beta: f64,
}

impl Settings for JensenShannon {
    const DEFAULT: Self = Self { beta: 0.5 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.037_149_614_263_383_11,
        gradient: [
            0.005_397_374_560_168_205,
            -0.013_810_305_651_237_259,
            0.006_798_800_226_055_277,
            0.005_294_910_939_997_894_5,
            -0.018_073_840_266_489_4,
            0.014_393_060_191_505_28,
        ],
    };
}

impl Properties for JensenShannon {
    fn check(&self) -> Result<(), ConfigError> {
        check_share("beta", self.beta)
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        refuse_renormalized("jensen_shannon", policy)
    }
}

impl SumOverClasses for JensenShannon {
    fn term<N: Number>(&self, log_p: N, log_q: N) -> N {
        let log_m = N::log_mix(self.beta, log_p.clone(), log_q.clone());
        let part = |log_x: N, share: f64| (log_x.clone() - log_m.clone()).weighted_by(log_x.exp()) * share;
        part(log_p, self.beta) + part(log_q, 1.0 - self.beta)
    }
}
