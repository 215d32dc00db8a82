//! One minus the rank correlation of the kept classes.

use super::formula::{Compared, OverRows, Properties, Settings};
use super::number::WholeRows;
use super::tempered::TailPolicy;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// 1 - correlation of the ranks of the kept classes. The teacher's ranks are integers (halves for ties); the student's
/// are softened to 1 + Σ_j sigmoid((z_j - z_i) / T) (CMKD, 2410.06561). A row with a single kept class, or whose
/// classes are all equally probable to the teacher, has no order to learn and adds 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spearman {}

impl Settings for Spearman {
    const DEFAULT: Self = Self {};
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.345_462_019_055_788_44,
        gradient: [
            0.560_905_204_231_000_3,
            -0.374_237_528_893_111_07,
            0.0,
            0.0,
            -0.186_667_675_337_889_22,
            0.0,
        ],
    };
}

impl Properties for Spearman {
    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        match policy {
            TailPolicy::Sampled => Err(policy
                .refused("\"bucket\", \"renorm\" or \"uniform\"")
                .because("spearman ranks the classes that are certain, and sampled ones have no rank among them")),
            _ => Ok(()),
        }
    }

    fn compares_pairs(&self) -> bool {
        true
    }

    /// A lower temperature always sharpens the ranks, so a learned temperature would only fall.
    fn teaches_temperature(&self) -> bool {
        false
    }
}

/// Spreads below this value count as none: there is nothing to correlate.
const SMALLEST: f64 = 1e-12;

impl OverRows for Spearman {
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
        let presence = compared.presence();
        let [_, is_there] = presence.clone().pairs();
        // A row of sampled classes alone has none that is certain, and no order.
        let classes = presence.clone().sum().at_least(1.0);
        // The soft number of classes before each class, less its mean. Each class counts ½ for itself, which shifts all
        // ranks alike.
        let centred_ranks = |is_before: A| {
            let ranks = (is_before * is_there.clone()).sum_of_pairs() * presence.clone();
            (ranks.clone() - ranks.sum() / classes.clone()) * presence.clone()
        };
        let behind = |x: &A| {
            let [first, second] = x.clone().pairs();
            second - first
        };
        let (theirs, ours) = (behind(&compared.kept.log_p), behind(&compared.kept.log_q));
        let [before, after] = [theirs.clone().positive_mask(), (-theirs).positive_mask()];
        // 1 for a class that comes before, ½ for a tie, 0 for one that comes after.
        let theirs = centred_ranks((before - after + 1.0) * 0.5);
        let ours = centred_ranks(ours.sigmoid());
        let dot = |a: &A, b: &A| (a.clone() * b.clone()).sum();
        let spread = dot(&theirs, &theirs);
        let has_order = spread.clone().positive_mask();
        let scale = (spread * dot(&ours, &ours)).at_least(SMALLEST).sqrt();
        (-(dot(&theirs, &ours) / scale) + 1.0) * has_order
    }
}
