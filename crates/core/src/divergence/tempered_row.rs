//! A teacher's row in f64 at one temperature.

use super::matrix::Matrix;
use super::tempered::{TailPolicy, Tempered};
use crate::soft_row::SoftRow;

/// A teacher's probabilities at one temperature.
///
/// # Examples
/// A student whose logits equal the teacher's up to an additive constant:
/// ```
/// use logitcask_core::divergence::{ForwardKl, compare};
/// use logitcask_core::{SoftRow, TailPolicy, TemperedRow};
///
/// let logits = [2.0f64, 1.0, 0.0];
/// let log_z = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
/// let log_probs = logits.map(|z| (z - log_z) as f32);
/// let row = SoftRow { class_ids: &[0, 1, 2], log_probs: &log_probs, log_z: log_z as f32, ..SoftRow::default() };
///
/// let teacher = TemperedRow::of(&row, 2.0, TailPolicy::Bucket);
/// let student = logits.map(|z| z + 5.0);
/// let forward_kl = compare(ForwardKl {}, &student, 2.0, &teacher);
/// assert!(forward_kl.loss.abs() < 1e-6);
/// assert!(forward_kl.gradient.iter().all(|slope| slope.abs() < 1e-6));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TemperedRow {
    /// The kept classes.
    pub class_ids: Vec<u32>,
    /// Their log-probabilities.
    pub log_probs: Vec<f64>,
    /// Number of classes that each stands for: 1, or 1 over its inclusion probability for a sampled class.
    pub counts: Vec<f64>,
    /// All other classes.
    pub rest: Remainder,
    /// Index of the label among the kept classes, if it is one of them and a loss needs it.
    pub label: Option<usize>,
    /// What must be added to log-probabilities to obtain raw logits over the temperature.
    pub log_z: f64,
    /// Mean of these logits over all classes.
    pub mean_logit: f64,
    /// Sum of the squared probabilities of all classes.
    pub sum_of_squares: f64,
}

/// The classes that were not kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remainder {
    /// There are none, or they do not take part in the loss.
    Nothing,
    /// They form one class.
    Bucket {
        /// Log of its probability.
        log_mass: f64,
    },
    /// They are all equally probable.
    Uniform {
        /// Log of their total probability.
        log_mass: f64,
    },
}

impl TemperedRow {
    /// Applies `temperature` and `policy` to `row`, see [`Tempered::new`].
    ///
    /// # Panics
    /// If the policy uses the tail, and what is known of it does not reach to `temperature`.
    pub fn of(row: &SoftRow, temperature: f64, policy: TailPolicy) -> Self {
        let b = 1.0 / temperature;
        let known = if policy == TailPolicy::Sampled { row.log_probs } else { row.certain() };
        let matrix = |values: Vec<f64>| Matrix::constant(1, values.len(), values);
        let scaled = matrix(known.iter().map(|&lp| b * f64::from(lp)).collect());
        let is_certain = matrix((0..known.len()).map(|i| f64::from(i < row.certain().len())).collect());
        let log_tail = row.tail.log_partition(b);
        assert!(policy == TailPolicy::Renormalize || !log_tail.is_nan(), "the tail at T = {temperature} is not known");
        let log_tail = Some(log_tail).filter(|log_tail| *log_tail > f64::NEG_INFINITY);
        let tempered = Tempered::new(scaled, Some(&is_certain), log_tail.map(|x| matrix(vec![x])), policy);
        let number = |matrix: &Matrix| matrix.values()[0];
        let rest = match (tempered.log_mass.as_ref().map(number), policy) {
            (None, _) => Remainder::Nothing,
            (Some(log_mass), TailPolicy::Uniform) => Remainder::Uniform { log_mass },
            (Some(log_mass), _) => Remainder::Bucket { log_mass },
        };
        Self {
            class_ids: row.class_ids[..known.len()].to_vec(),
            log_probs: tempered.log_probs.values().to_vec(),
            counts: row.importance_weights().take(known.len()).collect(),
            rest,
            label: None,
            // Without a class that counts there is no partition function, and nothing that would need it.
            log_z: Some(number(&tempered.log_total)).filter(|log_total| log_total.is_finite()).unwrap_or(0.0)
                + b * f64::from(row.log_z),
            mean_logit: b * row.logit_moments(0.0).0,
            sum_of_squares: row.sum_of_squares(temperature),
        }
    }
}
