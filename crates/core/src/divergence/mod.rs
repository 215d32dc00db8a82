//! Every divergence in f64 with its gradient: what the tensors of a trainer must agree with.
//!
//! Most are sums over *terms*, pairs of a teacher's and a student's probability: one for each kept class, and what a
//! [`TailPolicy`] makes of the others. Such a divergence is one scalar function of a term and its slope (a file each), and
//! [`compare`] does the rest for all of them alike. Those that look at a row as a whole (its logits, its label, its
//! order) have a file with a function of the row.

mod alpha_beta;
mod decoupled;
mod forward_kl;
mod hellinger;
mod jensen_shannon;
mod mean_squares;
pub mod pearson;
mod reverse_kl;
mod skew_kl;
mod spearman;
mod target;
mod terms;
#[cfg(test)]
mod tests;
mod total_variation;

pub use target::{Remainder, TailPolicy, TemperedRow};
pub use terms::{Real, eval_terms};

use crate::math::log_sum_exp;
use serde::{Deserialize, Serialize};

/// How far a student's probabilities q are from a teacher's p. Variants without parameters have braces, for serde lets a
/// unit variant have any field in a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// Σ p log(p / q) (1503.02531).
    ForwardKl {},
    /// Σ q log(q / p) (2306.08543).
    ReverseKl {},
    /// beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q (2306.13649).
    JensenShannon {
        /// The teacher's share of m, within 0..1.
        #[serde(default = "half")]
        beta: f64,
    },
    /// KL(p || lambda p + (1 - lambda) q) (2402.03898).
    SkewForwardKl {
        /// The teacher's share of the mixture, within 0..1.
        #[serde(default = "tenth")]
        lambda: f64,
    },
    /// KL(q || lambda q + (1 - lambda) p) (2402.03898).
    SkewReverseKl {
        /// The student's share of the mixture, within 0..1.
        #[serde(default = "tenth")]
        lambda: f64,
    },
    /// ½ Σ |p - q| (2307.15190).
    TotalVariation {},
    /// ½ Σ (√p - √q)², the square of the Hellinger distance.
    Hellinger {},
    /// Σ (alpha p^(alpha + beta) + beta q^(alpha + beta)) / (alpha beta (alpha + beta)) - p^alpha q^beta / (alpha beta):
    /// forward KL at (1, 0), reverse KL at (0, 1), squared Hellinger times 4 at (½, ½) (2505.04560).
    AlphaBeta {
        /// Power of p; larger: where the teacher is sure.
        #[serde(default = "two_tenths")]
        alpha: f64,
        /// Power of q; larger: where the student is sure.
        #[serde(default = "seven_tenths")]
        beta: f64,
    },
    /// Mean over the terms of (z_p / T - z_q / T)², z the raw logits (1312.6184). It sees a constant added to all logits,
    /// but where both sides are `centred` on their means over all classes.
    MeanSquares {
        /// Subtract the mean of all logits on either side; with temperatures that follow the spread of the logits these
        /// are then standardised.
        #[serde(default)]
        centred: bool,
    },
    /// label · KL of the label against all others + others · KL among the others alone (DKD, 2203.08679).
    Decoupled {
        /// Weight of the first part.
        #[serde(default = "one")]
        label: f64,
        /// Weight of the second.
        #[serde(default = "eight")]
        others: f64,
    },
    /// 1 - correlation of p and q over all classes, and `columns` times the mean over classes of the same over the
    /// positions of a batch (DIST, 2205.10536).
    Pearson {
        /// Weight of the second part, for which every class must be kept.
        #[serde(default)]
        columns: f64,
    },
    /// 1 - correlation of the ranks of the kept classes, the student's softened: 1 + Σ_j sigmoid((z_j - z_i) / T)
    /// (CMKD, 2410.06561).
    Spearman {},
}

impl Default for Divergence {
    fn default() -> Self {
        Self::ForwardKl {}
    }
}

const fn half() -> f64 {
    0.5
}
const fn one() -> f64 {
    1.0
}
const fn eight() -> f64 {
    8.0
}
const fn tenth() -> f64 {
    0.1
}
const fn two_tenths() -> f64 {
    0.2
}
const fn seven_tenths() -> f64 {
    0.7
}

impl Divergence {
    /// Refuses parameters for which the formula says nothing.
    pub fn check(&self) -> Result<(), String> {
        let within = |name, share: f64| match share > 0.0 && share < 1.0 {
            true => Ok(()),
            false => Err(format!("{name} = {share} is not between 0 and 1")),
        };
        let not_negative = |name, weight: f64| match weight >= 0.0 && weight.is_finite() {
            true => Ok(()),
            false => Err(format!("{name} = {weight} is no weight")),
        };
        match *self {
            Self::JensenShannon { beta } => within("beta", beta),
            Self::SkewForwardKl { lambda } | Self::SkewReverseKl { lambda } => within("lambda", lambda),
            Self::AlphaBeta { alpha, beta } if alpha > 0.0 && beta > 0.0 && (alpha + beta).is_finite() => Ok(()),
            Self::AlphaBeta { alpha, beta } => Err(format!(
                "alpha = {alpha} and beta = {beta} must both be positive; forward_kl and reverse_kl are the limits at 0"
            )),
            Self::Decoupled { label, others } => not_negative("label", label).and(not_negative("others", others)),
            Self::Pearson { columns } => not_negative("columns", columns),
            _ => Ok(()),
        }
    }

    /// Is it a sum of one function over pairs of probabilities?
    pub fn is_sum_over_classes(&self) -> bool {
        !matches!(self, Self::MeanSquares { .. } | Self::Decoupled { .. } | Self::Pearson { .. } | Self::Spearman {})
    }

    /// Must the label be among the classes that are known one by one?
    pub fn needs_label(&self) -> bool {
        matches!(self, Self::Decoupled { .. })
    }

    /// Does it compare the raw logits, so that a constant added to all of them is seen?
    pub fn depends_on_logit_scale(&self) -> bool {
        matches!(self, Self::MeanSquares { centred: false })
    }

    /// Refuses a policy under which the sum is no divergence: `renorm` compares a p that adds up to 1 with a q that does
    /// not, and what is weighted by q can then be lowered by moving mass out of sight.
    pub fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), String> {
        match (self, policy) {
            (Self::ReverseKl {} | Self::JensenShannon { .. } | Self::SkewReverseKl { .. }, TailPolicy::Renormalize) => {
                Err(format!(
                    "{self:?} weighs classes by the student, and with tail = \"renorm\" the student lowers it by giving the \
                     kept classes less; use \"bucket\" or \"uniform\""
                ))
            }
            (Self::Decoupled { .. }, policy) if policy != TailPolicy::Bucket => Err(format!(
                "{self:?} compares the label with all others together; it is defined for tail = \"bucket\" alone"
            )),
            (Self::Pearson { .. }, TailPolicy::Renormalize | TailPolicy::Sampled) => Err(format!(
                "{self:?} is a correlation over all classes, those outside taken as equally probable; use \"bucket\" or \
                 \"uniform\""
            )),
            (Self::MeanSquares { .. }, TailPolicy::Uniform) => Err(format!(
                "{self:?} has no logits for classes outside; use \"bucket\" (their log-sum-exp is one), \"renorm\" (the \
                 kept ones alone) or \"sampled\""
            )),
            (Self::Spearman {}, TailPolicy::Sampled) => {
                Err("spearman ranks the classes kept for sure; drawn ones have no place among them".into())
            }
            _ => Ok(()),
        }
    }
}

/// A loss at one position and its gradient.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// In nats, without any factor for the temperature.
    pub loss: f64,
    /// d loss / d student logit, one for each class of the vocabulary.
    pub gradient: Vec<f64>,
}

/// `divergence` of `target` and softmax(`student` / `temperature`), the student over its whole vocabulary. Of
/// [`Divergence::Pearson`] the part that one row has; [`pearson::columns`] is the other.
pub fn compare(divergence: Divergence, student: &[f64], temperature: f64, target: &TemperedRow) -> Comparison {
    let student = Student::new(student, temperature, target);
    match divergence {
        Divergence::MeanSquares { centred } => mean_squares::compare(centred, &student, target),
        Divergence::Decoupled { label, others } => decoupled::compare(label, others, &student, target),
        Divergence::Pearson { .. } => pearson::compare(&student, target),
        Divergence::Spearman {} => spearman::compare(&student, target),
        _ => terms::compare(divergence, &student, target),
    }
}

/// A student's row at a temperature.
struct Student {
    temperature: f64,
    /// Its logits over the temperature.
    scaled: Vec<f64>,
    /// log sum exp of these.
    log_z: f64,
    /// Log-probabilities.
    log_q: Vec<f64>,
    /// The classes that a target does not know one by one.
    outside: Vec<usize>,
}

impl Student {
    fn new(logits: &[f64], temperature: f64, target: &TemperedRow) -> Self {
        let scaled: Vec<f64> = logits.iter().map(|s| s / temperature).collect();
        let log_z = log_sum_exp(&scaled);
        let log_q = scaled.iter().map(|s| s - log_z).collect();
        let mut is_known = vec![false; logits.len()];
        target.class_ids.iter().for_each(|&id| is_known[id as usize] = true);
        let outside = (0..logits.len()).filter(|i| !is_known[*i]).collect();
        Self { temperature, scaled, log_z, log_q, outside }
    }

    /// Log of the probability of the classes outside.
    fn log_other(&self) -> f64 {
        log_sum_exp(&self.outside.iter().map(|&i| self.log_q[i]).collect::<Vec<_>>())
    }

    /// The gradient of a loss with these slopes d loss / d log q: (h - q Σ h) / temperature.
    fn gradient_of_slopes(&self, slopes: &[f64]) -> Vec<f64> {
        let total: f64 = slopes.iter().sum();
        self.log_q.iter().zip(slopes).map(|(lq, h)| (h - total * lq.exp()) / self.temperature).collect()
    }
}
