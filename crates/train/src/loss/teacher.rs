//! Cached rows at a temperature, on the device: [`logitcask_core::Target`] as tensors.

use crate::batch::{float_tensor, int_tensor};
use crate::loss::log_sum_exp;
use crate::targets::{NO_CLASS, SoftTargets};
use burn::tensor::{Device, Int, Tensor};
use logitcask_core::TailPolicy;

/// What the teacher said at n positions, for any temperature.
pub struct Teacher {
    /// \[n, width\].
    pub class_ids: Tensor<2, Int>,
    /// \[n, width\], how many classes each stands for; `None`: 1 everywhere.
    pub counts: Option<Tensor<2>>,
    log_probs: Tensor<2>,
    is_sure: Option<Tensor<2>>,
    /// Logits and log-weights of the tail's atoms, \[n, atoms\]; `None`: all classes are kept.
    tail: Option<(Tensor<2>, Tensor<2>)>,
}

/// A teacher at one temperature.
pub struct Tempered {
    /// \[n, width\], log-probabilities.
    pub log_probs: Tensor<2>,
    /// \[n, 1\], log of the probability outside, very low where nothing is; `None`: it has no place in the loss.
    pub log_mass: Option<Tensor<2>>,
}

impl Teacher {
    /// Uploads `targets`.
    pub fn new(targets: &SoftTargets, device: &Device) -> Self {
        let n = targets.best_ids.len();
        let classes = [n, targets.width];
        let tail = |values: &[f32]| float_tensor(values, [n, targets.tail_width], device);
        let maybe = |values: &Option<Vec<f32>>| values.as_ref().map(|values| float_tensor(values, classes, device));
        Self {
            class_ids: int_tensor(&targets.class_ids, classes, device),
            counts: maybe(&targets.counts),
            log_probs: float_tensor(&targets.log_probs, classes, device),
            is_sure: maybe(&targets.is_sure),
            tail: (targets.tail_width > 0).then(|| (tail(&targets.tail_logits), tail(&targets.tail_log_weights))),
        }
    }

    /// 0 for a class, and very low for a place that holds none; `None`: every place holds one. \[n, width\].
    pub fn absence(&self) -> Option<Tensor<2>> {
        let counts = self.counts.as_ref()?;
        Some(counts.clone().equal_elem(0.0).float() * super::student::NOWHERE)
    }

    /// The rows at `temperature` as `policy` sees them.
    pub fn at(&self, temperature: f64, policy: TailPolicy) -> Tempered {
        let b = 1.0 / temperature;
        let scaled = self.log_probs.clone() * b;
        let sure = match &self.is_sure {
            None => scaled.clone(),
            Some(is_sure) => scaled.clone() + (is_sure.clone() - 1.0) * -f64::from(NO_CLASS),
        };
        let tail = self.tail.as_ref().map(|(logits, weights)| logits.clone() * b + weights.clone());
        let terms = match (&tail, policy) {
            (Some(tail), policy) if policy != TailPolicy::Renormalize => Tensor::cat(vec![sure, tail.clone()], 1),
            _ => sure,
        };
        let log_total = log_sum_exp(terms);
        let has_mass = matches!(policy, TailPolicy::Bucket | TailPolicy::Uniform);
        Tempered {
            log_probs: scaled - log_total.clone(),
            log_mass: tail.filter(|_| has_mass).map(|tail| log_sum_exp(tail) - log_total),
        }
    }
}
