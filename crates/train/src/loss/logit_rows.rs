//! Rows of logits as a loss uses them: a few numbers are read, and a few slopes are returned.
//!
//! A loss depends on the kept classes, the label, and the log-sum-exp of all others at some temperatures. The gradient
//! of the logits is softmax of the others times the slope of their log-sum-exp, plus the slopes of the kept classes at
//! their places. This takes one buffer per temperature and no graph over the vocabulary.

use crate::loss::student::NOWHERE;
use crate::loss::{DeviceTargets, Temperature};
use crate::tensors::add;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// Rows of logits, \[n, vocabulary\], outside any graph.
pub(crate) struct LogitRows {
    class_ids: Option<Tensor<2, Int>>,
    /// Logits of the kept classes, \[n, width\]; `None` without a teacher.
    pub(crate) kept: Option<Tensor<2>>,
    gold_ids: Tensor<2, Int>,
    /// Logit of the label, \[n, 1\].
    pub(crate) gold: Tensor<2>,
    /// Logits with the kept classes masked.
    masked: Tensor<2>,
    views: Vec<View>,
}

/// exp((logit - largest) / T) of the classes that are not kept.
struct View {
    temperature: Temperature,
    /// \[n, vocabulary\].
    exps: Tensor<2>,
    /// \[n, 1\].
    sum: Tensor<2>,
    log_sum: Tensor<2>,
}

/// Slopes of the loss along the numbers of [`LogitRows`]; `None` if it does not depend on them.
pub(super) struct Slopes {
    /// \[n, width\].
    pub(super) kept: Option<Tensor<2>>,
    /// \[n, 1\].
    pub(super) gold: Option<Tensor<2>>,
    /// \[n, 1\] each.
    pub(super) log_sums: Vec<Option<Tensor<2>>>,
}

impl LogitRows {
    /// logits: \[n, vocabulary\], outside any graph; gold_ids: \[n, 1\].
    pub(crate) fn new(
        logits: Tensor<2>,
        gold_ids: Tensor<2, Int>,
        teacher: Option<&DeviceTargets>,
        temperatures: &[Temperature],
    ) -> Self {
        let (kept, gold) = look(logits.clone(), teacher, gold_ids.clone());
        let masked = match teacher {
            None => logits,
            Some(teacher) => hide(logits, teacher),
        };
        let view = |t: &Temperature| {
            let temperature = t.plain();
            let max = masked.clone().max_dim(1);
            let exps = temperature.divide(masked.clone() - max.clone()).exp();
            let sum = exps.clone().sum_dim(1);
            let log_sum = sum.clone().log() + temperature.divide(max);
            View { temperature, exps, sum, log_sum }
        };
        let views = temperatures.iter().map(view).collect();
        Self { class_ids: teacher.map(|teacher| teacher.class_ids.clone()), kept, gold_ids, gold, masked, views }
    }

    /// 1 for a class that is not kept, 0 for one that is, \[n, vocabulary\].
    pub(super) fn is_outside(&self) -> Tensor<2> {
        self.masked.clone().greater_elem(NOWHERE / 2.0).float()
    }

    /// log sum exp(logit / T) over the classes that are not kept, for each requested temperature, \[n, 1\] each.
    pub(crate) fn log_sums(&self) -> Vec<Tensor<2>> {
        self.views.iter().map(|view| view.log_sum.clone()).collect()
    }

    /// d log_sum / d T = -E\[logit\] / T² for one of the temperatures, \[n, 1\].
    pub(super) fn slope_of_temperature(&self, view: usize) -> Tensor<2> {
        let view = &self.views[view];
        let mean = (view.exps.clone() * self.masked.clone()).sum_dim(1) / view.sum.clone();
        -view.temperature.divide(view.temperature.divide(mean))
    }

    /// d loss / d logits, \[n, vocabulary\].
    pub(super) fn gradient(self, slopes: Slopes) -> Tensor<2> {
        let (shape, device) = (self.masked.dims(), self.masked.device());
        let mut gradient = None;
        for (view, slope) in self.views.into_iter().zip(slopes.log_sums) {
            let View { temperature, exps, sum, .. } = view;
            add(&mut gradient, slope.map(|slope| exps * temperature.divide(slope / sum)));
        }
        // A loss that compares only the kept classes has no gradient at the others.
        let mut gradient = gradient.unwrap_or_else(|| Tensor::zeros(shape, &device));
        for (ids, slope) in [(self.class_ids, slopes.kept), (Some(self.gold_ids), slopes.gold)] {
            if let (Some(ids), Some(slope)) = (ids, slope) {
                gradient = gradient.scatter(1, ids, slope, IndexingUpdateOp::Add);
            }
        }
        gradient
    }
}

/// Gathers the logits of the teacher's kept classes, \[n, width\], and of the label, \[n, 1\].
pub(super) fn look(
    logits: Tensor<2>,
    teacher: Option<&DeviceTargets>,
    gold_ids: Tensor<2, Int>,
) -> (Option<Tensor<2>>, Tensor<2>) {
    let Some(teacher) = teacher else { return (None, logits.gather(1, gold_ids)) };
    // One gather for both: burn 0.22 fuses a gather into a wider kernel without broadcasting its indices, and a
    // separate one for the label, one column among many, would read class 0.
    let [n, width] = teacher.class_ids.dims();
    let ids = Tensor::cat(vec![teacher.class_ids.clone(), gold_ids], 1);
    let found = logits.gather(1, ids);
    (Some(found.clone().slice([0..n, 0..width])), found.slice([0..n, width..width + 1]))
}

/// Masks the teacher's kept classes in the logits.
pub(super) fn hide(logits: Tensor<2>, teacher: &DeviceTargets) -> Tensor<2> {
    let away = match &teacher.counts {
        None => teacher.class_ids.clone().float().zeros_like() + NOWHERE,
        Some(counts) => counts.clone().greater_elem(0.0).float() * NOWHERE,
    };
    logits.scatter(1, teacher.class_ids.clone(), away, IndexingUpdateOp::Add)
}
