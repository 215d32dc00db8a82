//! Cached rows on the device, which can be evaluated at any temperature.

use crate::loss::{OnDevice, Temperature};
use crate::target_batch::TargetBatch;
use crate::tensors::{float_tensor, int_tensor};
use burn::tensor::{Device, Int, Tensor};
use logitcask_core::TailPolicy;
use logitcask_core::divergence::{CachedRows, Tempered};

/// The teacher's rows at n positions, which can be evaluated at any temperature.
pub struct DeviceTargets {
    /// \[n, width\].
    pub class_ids: Tensor<2, Int>,
    /// \[n, width\], number of classes that each stands for; `None` means 1 everywhere.
    pub counts: Option<Tensor<2>>,
    /// \[n, width\], 1 for the label and 0 for all others; `None` if no loss needs it.
    pub is_label: Option<Tensor<2>>,
    /// Statistics of the raw logits; `None` if no loss needs them.
    pub raw: Option<RawLogits>,
    rows: CachedRows<OnDevice>,
}

/// Statistics of the teacher's raw logits over all classes, \[n, 1\] each.
#[derive(Clone)]
pub struct RawLogits {
    /// Their log-partition at T = 1.
    pub log_z: Tensor<2>,
    /// Their mean.
    pub mean: Tensor<2>,
    /// Their standard deviation.
    pub std: Tensor<2>,
}

impl DeviceTargets {
    /// Uploads `targets`.
    pub fn new(targets: &TargetBatch, device: &Device) -> Self {
        let n = targets.gold_log_probs.len();
        let classes = [n, targets.width];
        let tail = |values: &[f32]| float_tensor(values, [n, targets.tail_width], device);
        let maybe = |values: &Option<Vec<f32>>| values.as_ref().map(|values| float_tensor(values, classes, device));
        let column = |values: Vec<f32>| float_tensor(&values, [n, 1], device);
        let raw = targets.stats.as_ref().map(|stats| {
            let of = |number: fn(&crate::target_batch::TeacherStats) -> f64| {
                column(stats.iter().map(|f| number(f) as f32).collect())
            };
            RawLogits { log_z: of(|f| f.teacher.log_z), mean: of(|f| f.mean), std: of(|f| f.std) }
        });
        Self {
            class_ids: int_tensor(&targets.class_ids, classes, device),
            counts: maybe(&targets.counts),
            is_label: maybe(&targets.is_label),
            raw,
            rows: CachedRows {
                log_probs: OnDevice(float_tensor(&targets.log_probs, classes, device)),
                is_certain: maybe(&targets.is_sure).map(OnDevice),
                tail: (targets.tail_width > 0)
                    .then(|| [&targets.tail_logits, &targets.tail_log_weights].map(|x| OnDevice(tail(x)))),
                without: targets.without.clone().map(column).map(OnDevice),
            },
        }
    }

    /// 0 for a class and a very low number for padding, \[n, width\]; `None` if there is no padding.
    pub fn absence(&self) -> Option<Tensor<2>> {
        let counts = self.counts.as_ref()?;
        Some(counts.clone().equal_elem(0.0).float() * super::student::NOWHERE)
    }

    /// 1 for a class and 0 for padding, \[n, width\].
    pub fn presence(&self) -> Tensor<2> {
        match &self.counts {
            None => self.rows.log_probs.0.ones_like(),
            Some(counts) => counts.clone().greater_elem(0.0).float(),
        }
    }

    /// Log-probabilities at T = 1 as they were stored, \[n, width\].
    pub fn stored(&self) -> Tensor<2> {
        self.rows.log_probs.0.clone()
    }

    /// Applies `temperature` and `policy` to the rows.
    pub fn at(&self, temperature: &Temperature, policy: TailPolicy) -> Tempered<OnDevice> {
        self.rows.at(|x| OnDevice(temperature.divide(x.0)), policy)
    }

    /// Sum of the squared probabilities of all classes at `temperature`, where `tempered` is the row at that
    /// temperature, \[n, 1\].
    pub fn sum_of_squares(&self, temperature: &Temperature, tempered: &Tempered<OnDevice>) -> OnDevice {
        let kept = ((tempered.log_probs.0.clone() * 2.0).exp() * self.presence()).sum_dim(1);
        let half = temperature.half();
        OnDevice(match self.rows.log_tail(|x| OnDevice(half.divide(x.0))) {
            None => kept,
            Some(log_tail) => kept + (log_tail.0 - tempered.log_total.0.clone() * 2.0).exp(),
        })
    }
}
