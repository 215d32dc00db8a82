//! Every divergence in f64 with its gradient: what the tensors of a trainer must agree with.
//!
//! A divergence here is a sum over *cells*, pairs of a teacher's and a student's probability: one for each kept class, and
//! what a [`TailPolicy`] makes of the others. So a divergence is one scalar function of a cell and its slope (a file
//! each), and [`compare`] does the rest for all of them alike.

mod alpha_beta;
mod forward_kl;
mod hellinger;
mod jensen_shannon;
mod reverse_kl;
mod skew_kl;
mod target;
#[cfg(test)]
mod tests;
mod total_variation;

pub use target::{Rest, TailPolicy, Target};

use crate::soft_row::log_sum_exp;
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
}

impl Default for Divergence {
    fn default() -> Self {
        Self::ForwardKl {}
    }
}

const fn half() -> f64 {
    0.5
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

/// What one cell adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Nats.
    pub value: f64,
    /// d value / d log q.
    pub slope: f64,
}

impl Divergence {
    /// Refuses parameters for which the formula says nothing.
    pub fn check(&self) -> Result<(), String> {
        let within = |name, share: f64| match share > 0.0 && share < 1.0 {
            true => Ok(()),
            false => Err(format!("{name} = {share} is not between 0 and 1")),
        };
        match *self {
            Self::JensenShannon { beta } => within("beta", beta),
            Self::SkewForwardKl { lambda } | Self::SkewReverseKl { lambda } => within("lambda", lambda),
            Self::AlphaBeta { alpha, beta } if alpha > 0.0 && beta > 0.0 && (alpha + beta).is_finite() => Ok(()),
            Self::AlphaBeta { alpha, beta } => Err(format!(
                "alpha = {alpha} and beta = {beta} must both be positive; forward_kl and reverse_kl are the limits at 0"
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a policy under which the sum is no divergence: `renorm` compares a p that adds up to 1 with a q that does
    /// not, and what is weighted by q can then be lowered by moving mass out of sight.
    pub fn fits(&self, policy: TailPolicy) -> Result<(), String> {
        match (self, policy) {
            (Self::ReverseKl {} | Self::JensenShannon { .. } | Self::SkewReverseKl { .. }, TailPolicy::Renormalize) => {
                Err(format!(
                    "{self:?} weighs classes by the student, and with tail = \"renorm\" the student lowers it by giving the \
                     kept classes less; use \"bucket\" or \"uniform\""
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a teacher's e^log_p beside a student's e^log_q adds.
    pub fn cell(&self, log_p: f64, log_q: f64) -> Cell {
        match *self {
            Self::ForwardKl {} => forward_kl::cell(log_p, log_q),
            Self::ReverseKl {} => reverse_kl::cell(log_p, log_q),
            Self::JensenShannon { beta } => jensen_shannon::cell(beta, log_p, log_q),
            Self::SkewForwardKl { lambda } => skew_kl::forward(lambda, log_p, log_q),
            Self::SkewReverseKl { lambda } => skew_kl::reverse(lambda, log_p, log_q),
            Self::TotalVariation {} => total_variation::cell(log_p, log_q),
            Self::Hellinger {} => hellinger::cell(log_p, log_q),
            Self::AlphaBeta { alpha, beta } => alpha_beta::cell(alpha, beta, log_p, log_q),
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

/// `divergence` of `target` and softmax(`student` / `temperature`), the student over its whole vocabulary.
///
/// With h = d loss / d log q, class by class, the gradient is (h - q Σ h) / temperature. A class inside the bucket has
/// the share q / q_other of the bucket's h.
pub fn compare(divergence: Divergence, student: &[f64], temperature: f64, target: &Target) -> Comparison {
    let scaled: Vec<f64> = student.iter().map(|s| s / temperature).collect();
    let log_z = log_sum_exp(&scaled);
    let log_q: Vec<f64> = scaled.iter().map(|s| s - log_z).collect();
    let mut is_sure = vec![false; student.len()];
    let (mut slopes, mut loss) = (vec![0.0; student.len()], 0.0);
    for ((&id, &log_p), &count) in target.class_ids.iter().zip(&target.log_probs).zip(&target.counts) {
        let cell = divergence.cell(log_p, log_q[id as usize]);
        is_sure[id as usize] = true;
        slopes[id as usize] += count * cell.slope;
        loss += count * cell.value;
    }
    let outside: Vec<usize> = (0..student.len()).filter(|i| !is_sure[*i]).collect();
    match target.rest {
        Rest::Nothing => {}
        Rest::Bucket { log_mass } => {
            let log_other = log_sum_exp(&outside.iter().map(|&i| log_q[i]).collect::<Vec<_>>());
            let cell = divergence.cell(log_mass, log_other);
            loss += cell.value;
            outside.iter().for_each(|&i| slopes[i] = cell.slope * (log_q[i] - log_other).exp());
        }
        Rest::Uniform { log_mass } => {
            let log_each = log_mass - (outside.len() as f64).ln();
            for &i in &outside {
                let cell = divergence.cell(log_each, log_q[i]);
                loss += cell.value;
                slopes[i] = cell.slope;
            }
        }
    }
    let total: f64 = slopes.iter().sum();
    let gradient = log_q.iter().zip(&slopes).map(|(lq, h)| (h - total * lq.exp()) / temperature).collect();
    Comparison { loss, gradient }
}
