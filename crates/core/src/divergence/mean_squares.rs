//! Mean squared difference of logits.

use super::formula::{Compared, OverRows, Properties, Settings, Terms, needed};
use super::number::WholeRows;
use super::tempered::TailPolicy;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// Mean over the terms of (z_p / T - z_q / T)², where z are the raw logits; the classes outside form one term with
/// logit log sum exp (1312.6184). The loss changes if a constant is added to all logits, unless both sides are
/// `centred` on their means over all classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeanSquares {
    /// Whether to subtract the mean of all logits on either side. Together with temperatures proportional to the spread
    /// of the logits this standardises them.
    pub centred: bool,
}

impl Settings for MeanSquares {
    const DEFAULT: Self = Self { centred: false };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.313_112_335_752_113_17,
        gradient: [
            0.062_5,
            -0.187_5,
            0.039_425_081_806_281_27,
            0.030_704_284_583_386_046,
            -0.125,
            0.083_462_898_838_853_51,
        ],
    };

    fn tested() -> Vec<Self> {
        vec![Self::DEFAULT, Self { centred: true }]
    }
}

impl Properties for MeanSquares {
    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        match policy {
            TailPolicy::Uniform => Err(policy
                .refused("\"bucket\" (their log-sum-exp is one), \"renorm\" (the kept ones alone) or \"sampled\"")
                .because("mean_squares has no logits for single classes outside")),
            _ => Ok(()),
        }
    }

    fn needs_logits(&self) -> bool {
        true
    }

    fn needs_mean_logit(&self) -> bool {
        self.centred
    }
}

impl OverRows for MeanSquares {
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
        let [teacher, student] = needed(&compared.log_z);
        let offset = student - teacher;
        let squares = |terms: &Terms<A>| {
            let off = terms.log_q.clone() - terms.log_p.clone() + offset.clone();
            match &terms.counts {
                None => (off.clone() * off).sum(),
                Some(counts) => {
                    // Padding is so far off that its square overflows f32, and infinity times a count of 0 is NaN.
                    let off = off * counts.clone().positive_mask();
                    (off.clone() * off * counts.clone()).sum()
                }
            }
        };
        let count = |terms: &Terms<A>| match &terms.counts {
            None => (terms.log_q.clone() * 0.0 + 1.0).sum(),
            Some(counts) => counts.clone().sum(),
        };
        match &compared.outside {
            // A row of sampled classes alone has none that is certain, and nothing to compare.
            None => squares(&compared.kept) / count(&compared.kept).at_least(1.0),
            Some(outside) => {
                (squares(&compared.kept) + squares(outside)) / (count(&compared.kept) + count(outside))
            }
        }
    }
}
