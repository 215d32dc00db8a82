//! Cached rows at a temperature, on the device: [`logitcask_core::TemperedRow`] as tensors.

use crate::loss::{Temperature, log_sum_exp};
use crate::target_batch::{NO_CLASS, TargetBatch};
use crate::tensors::{float_tensor, int_tensor};
use burn::tensor::{Device, Int, Tensor};
use logitcask_core::TailPolicy;
use logitcask_core::tail::LEAST_LEFT;

/// What the teacher said at n positions, for any temperature.
pub struct DeviceTargets {
    /// \[n, width\].
    pub class_ids: Tensor<2, Int>,
    /// \[n, width\], how many classes each stands for; `None`: 1 everywhere.
    pub counts: Option<Tensor<2>>,
    /// \[n, width\], 1 for the label and 0 for all others; `None` where no loss asks.
    pub is_label: Option<Tensor<2>>,
    /// log-partition of the raw logits at T = 1, and their mean and standard deviation over all classes alike, \[n, 1\]
    /// each; `None` where no loss asks.
    pub raw: Option<[Tensor<2>; 3]>,
    log_probs: Tensor<2>,
    is_sure: Option<Tensor<2>>,
    /// Logits and log-weights of the tail's atoms, \[n, atoms\]; `None`: all classes are kept.
    tail: Option<(Tensor<2>, Tensor<2>)>,
    /// Log-probability of a class taken out of the tail, \[n, 1\].
    without: Option<Tensor<2>>,
}

/// A teacher at one temperature.
pub struct Tempered {
    /// \[n, width\], log-probabilities.
    pub log_probs: Tensor<2>,
    /// \[n, 1\], log of the probability outside, very low where nothing is; `None`: it has no place in the loss.
    pub log_mass: Option<Tensor<2>>,
    /// \[n, 1\], what log-probabilities lack to be logits over the temperature, these relative to the log-partition at 1.
    pub log_total: Tensor<2>,
}

impl DeviceTargets {
    /// Uploads `targets`.
    pub fn new(targets: &TargetBatch, device: &Device) -> Self {
        let n = targets.best_ids.len();
        let classes = [n, targets.width];
        let tail = |values: &[f32]| float_tensor(values, [n, targets.tail_width], device);
        let maybe = |values: &Option<Vec<f32>>| values.as_ref().map(|values| float_tensor(values, classes, device));
        let column = |values: Vec<f32>| float_tensor(&values, [n, 1], device);
        let raw = targets.stats.as_ref().map(|stats| {
            let of = |number: fn(&crate::target_batch::TeacherStats) -> f64| {
                column(stats.iter().map(|f| number(f) as f32).collect())
            };
            [of(|f| f.teacher.log_z), of(|f| f.mean), of(|f| f.std)]
        });
        Self {
            class_ids: int_tensor(&targets.class_ids, classes, device),
            counts: maybe(&targets.counts),
            is_label: maybe(&targets.is_label),
            raw,
            log_probs: float_tensor(&targets.log_probs, classes, device),
            is_sure: maybe(&targets.is_sure),
            tail: (targets.tail_width > 0).then(|| (tail(&targets.tail_logits), tail(&targets.tail_log_weights))),
            without: targets.without.clone().map(column),
        }
    }

    /// 0 for a class, and very low for a place that holds none; `None`: every place holds one. \[n, width\].
    pub fn absence(&self) -> Option<Tensor<2>> {
        let counts = self.counts.as_ref()?;
        Some(counts.clone().equal_elem(0.0).float() * super::student::NOWHERE)
    }

    /// 1 for a class, 0 for a place that holds none, \[n, width\].
    pub fn presence(&self) -> Tensor<2> {
        match &self.counts {
            None => self.log_probs.ones_like(),
            Some(counts) => counts.clone().greater_elem(0.0).float(),
        }
    }

    /// Log-probabilities at T = 1 as they were stored, \[n, width\].
    pub fn stored(&self) -> Tensor<2> {
        self.log_probs.clone()
    }

    /// The rows at `temperature` as `policy` sees them.
    pub fn at(&self, temperature: &Temperature, policy: TailPolicy) -> Tempered {
        let scaled = temperature.divide(self.log_probs.clone());
        let sure = match &self.is_sure {
            None => scaled.clone(),
            Some(is_sure) => scaled.clone() + (is_sure.clone() - 1.0) * -f64::from(NO_CLASS),
        };
        let log_tail = self.log_tail(temperature);
        let terms = match (&log_tail, policy) {
            (Some(log_tail), policy) if policy != TailPolicy::Renormalize => {
                Tensor::cat(vec![sure, log_tail.clone()], 1)
            }
            _ => sure,
        };
        let log_total = log_sum_exp(terms);
        let has_mass = matches!(policy, TailPolicy::Bucket | TailPolicy::Uniform);
        Tempered {
            log_probs: scaled - log_total.clone(),
            log_mass: log_tail.filter(|_| has_mass).map(|log_tail| log_tail - log_total.clone()),
            log_total,
        }
    }

    /// Sum of the squared probabilities of all classes at `temperature`, of which `tempered` is the row, \[n, 1\].
    pub fn sum_of_squares(&self, temperature: &Temperature, tempered: &Tempered) -> Tensor<2> {
        let kept = ((tempered.log_probs.clone() * 2.0).exp() * self.presence()).sum_dim(1);
        match self.log_tail(&temperature.half()) {
            None => kept,
            Some(log_tail) => kept + (log_tail - tempered.log_total.clone() * 2.0).exp(),
        }
    }

    /// Log of the tail's partition function relative to log_z, \[n, 1\].
    fn log_tail(&self, temperature: &Temperature) -> Option<Tensor<2>> {
        let (logits, weights) = self.tail.as_ref()?;
        let all = log_sum_exp(temperature.divide(logits.clone()) + weights.clone());
        Some(match &self.without {
            None => all,
            Some(without) => {
                let share = (temperature.divide(without.clone()) - all.clone()).exp();
                all + (-share + 1.0).clamp_min(LEAST_LEFT).log()
            }
        })
    }
}
