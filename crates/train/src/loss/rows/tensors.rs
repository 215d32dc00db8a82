//! Rows by tensor operations.

use super::{Rows, Slopes};
use crate::loss::head::{add, hide, look};
use crate::loss::{DeviceTargets, Temperature};
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// On any device. Nothing of it is in a graph.
pub(in crate::loss) struct Tensors {
    kept: Option<(Tensor<2, Int>, Tensor<2>)>,
    gold_ids: Tensor<2, Int>,
    gold: Tensor<2>,
    /// Logits with the kept classes out of sight.
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

impl Tensors {
    /// logits: \[n, vocabulary\], outside any graph; gold_ids: \[n, 1\].
    pub(in crate::loss) fn new(
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
        let kept = kept.zip(teacher).map(|(kept, teacher)| (teacher.class_ids.clone(), kept));
        Self { kept, gold_ids, gold, masked, views }
    }
}

impl Rows for Tensors {
    fn kept(&self) -> Option<Tensor<2>> {
        self.kept.as_ref().map(|(_, kept)| kept.clone())
    }

    fn gold(&self) -> Tensor<2> {
        self.gold.clone()
    }

    fn log_sums(&self) -> Vec<Tensor<2>> {
        self.views.iter().map(|view| view.log_sum.clone()).collect()
    }

    fn along(&self, view: usize) -> Tensor<2> {
        let view = &self.views[view];
        let mean = (view.exps.clone() * self.masked.clone()).sum_dim(1) / view.sum.clone();
        -view.temperature.divide(view.temperature.divide(mean))
    }

    fn gradient(self: Box<Self>, slopes: Slopes) -> Tensor<2> {
        let (shape, device) = (self.masked.dims(), self.masked.device());
        let mut gradient = None;
        for (view, slope) in self.views.into_iter().zip(slopes.log_sums) {
            let View { temperature, exps, sum, .. } = view;
            add(&mut gradient, slope.map(|slope| exps * temperature.divide(slope / sum)));
        }
        // Nothing of the others is asked where a loss compares the kept classes alone.
        let mut gradient = gradient.unwrap_or_else(|| Tensor::zeros(shape, &device));
        for (ids, slope) in [(self.kept.map(|(ids, _)| ids), slopes.kept), (Some(self.gold_ids), slopes.gold)] {
            if let (Some(ids), Some(slope)) = (ids, slope) {
                gradient = gradient.scatter(1, ids, slope, IndexingUpdateOp::Add);
            }
        }
        gradient
    }
}
