//! One minus the Pearson correlation of probabilities, over the classes of a row and over the positions of a batch.

use super::formula::{Compared, OverRows, Properties, Settings, needed};
use super::number::WholeRows;
use super::tempered::TailPolicy;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// 1 - (Σ p q - 1/n) / √((Σ p² - 1/n) (Σ q² - 1/n)) over the n classes of a row, where classes outside count as equally
/// probable in Σ p q, plus `columns` times the mean over classes of the same over the positions of a batch (DIST,
/// 2205.10536).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pearson {
    /// Weight of the second part, for which every class must be kept.
    pub columns: f64,
}

impl Settings for Pearson {
    const DEFAULT: Self = Self { columns: 0.0 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 0.354_674_768_686_000_23,
        gradient: [
            0.081_221_557_840_227_04,
            -0.155_410_461_847_201_42,
            0.021_461_632_157_496_21,
            -0.004_229_934_406_506_909,
            -0.275_971_417_428_363_5,
            0.332_928_623_684_348_6,
        ],
    };
}

/// Spreads below this value count as none: there is nothing to correlate.
const SMALLEST: f64 = 1e-12;

impl Properties for Pearson {
    fn check(&self) -> Result<(), ConfigError> {
        super::check_weight("columns", self.columns)
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        match policy {
            TailPolicy::Renormalize | TailPolicy::Sampled => Err(policy
                .refused("\"bucket\" or \"uniform\"")
                .because("pearson is a correlation over all classes, those outside taken as equally probable")),
            TailPolicy::Bucket | TailPolicy::Uniform => Ok(()),
        }
    }

    fn needs_all_classes(&self) -> bool {
        self.columns > 0.0
    }

    fn needs_squares(&self) -> bool {
        true
    }

    fn compares_positions(&self) -> bool {
        self.columns > 0.0
    }
}

impl OverRows for Pearson {
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
        let presence = compared.presence();
        let [p, q] = [&compared.kept.log_p, &compared.kept.log_q].map(|x| x.clone().exp() * presence.clone());
        let mut both = (p.clone() * q.clone()).sum();
        if let Some(outside) = &compared.outside {
            let classes = (-presence.sum() + compared.vocab_size as f64).at_least(1.0);
            both = both + outside.log_p.clone().exp() * outside.log_q.clone().exp() / classes;
        }
        let inverse = 1.0 / compared.vocab_size as f64;
        let [theirs, ours] = needed(&compared.squares).map(|squares| (squares + -inverse).at_least(SMALLEST));
        let of_rows = -((both + -inverse) / (theirs * ours).sqrt()) + 1.0;
        if self.columns == 0.0 {
            return of_rows;
        }
        // The mean over classes is the same at every position.
        let [p, q] = [p, q].map(|x| x.clone() - x.mean_of_positions());
        let dot = |a: &A, b: &A| (a.clone() * b.clone()).mean_of_positions();
        let scale = (dot(&p, &p) * dot(&q, &q)).at_least(SMALLEST * SMALLEST).sqrt();
        let columns = (-(dot(&p, &q) / scale) + 1.0).sum() * inverse;
        of_rows + columns * self.columns
    }
}
