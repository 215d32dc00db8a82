//! How a student is compared with its targets: one file a family.

mod cross_entropy;
mod forward_kl;

pub use cross_entropy::cross_entropy;
pub use forward_kl::forward_kl;

use crate::batch::{Batch, int_tensor};
use burn::tensor::Tensor;
use logitcask_core::{Keep, TailPolicy};
use serde::{Deserialize, Serialize};

/// alpha · T² · forward KL + (1 - alpha) · cross entropy on the labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the soft targets, 0 (labels only) to 1 (teacher only).
    pub alpha: f64,
    /// Temperature of teacher and student in the soft part.
    #[serde(default = "one")]
    pub temperature: f64,
    /// What the soft part does about classes the cache did not keep.
    #[serde(default)]
    pub tail: TailPolicy,
    /// Read only this many of the kept classes; the others join the tail, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u32>,
}

const fn one() -> f64 {
    1.0
}

impl LossConfig {
    /// Labels only.
    pub const LABELS: Self = Self { alpha: 0.0, temperature: 1.0, tail: TailPolicy::Bucket, classes: None };

    /// Refuses what is no weight and no temperature.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(format!("[loss] alpha = {} is not within 0..=1", self.alpha));
        }
        if self.classes == Some(0) {
            return Err("[loss] classes = 0 leaves nothing to learn from".into());
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(format!("[loss] temperature = {} is not a positive number", self.temperature));
        }
        Ok(())
    }

    /// Refuses what rows of this kind cannot answer.
    pub fn fits(&self, keep: &Keep) -> Result<(), String> {
        if self.alpha == 0.0 {
            return Ok(());
        }
        if let Some(classes) = self.classes
            && (keep.is_dense() || keep.is_sampled())
        {
            return Err(format!(
                "[loss] classes = {classes} asks for the likeliest of the kept classes, and this cache has none ({}); \
                 leave it out",
                if keep.is_dense() { "its rows are dense" } else { "they are drawn by lot" }
            ));
        }
        match (keep.tail, self.tail) {
            (Some(tail), TailPolicy::Bucket)
                if !(tail.lowest_temperature..=tail.highest_temperature).contains(&self.temperature) =>
            {
                Err(format!(
                    "[loss] temperature = {} is outside {} to {}, for which this cache's tail is right; make it again with a \
                     wider [cache] temperature_range, or use tail = \"renorm\"",
                    self.temperature, tail.lowest_temperature, tail.highest_temperature
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Sums over the positions of a batch; a caller divides by the positions of the whole step.
pub struct LossSums {
    /// What is minimised.
    pub total: Tensor<1>,
    /// Forward KL without T², where it was asked for.
    pub kl: Option<Tensor<1>>,
    /// Cross entropy on the labels, where it was asked for.
    pub cross_entropy: Option<Tensor<1>>,
}

/// The loss of a batch. logits: \[positions, vocabulary\], in the order of `batch.positions`.
pub fn distill(logits: Tensor<2>, batch: &Batch, config: &LossConfig) -> LossSums {
    let count = batch.gold_ids.len();
    let device = logits.device();
    let targets = batch.targets.as_ref().filter(|_| config.alpha > 0.0);
    // The log-partition is the one pass over the vocabulary that both parts need: at T = 1 it is the same one.
    let mut log_z_at_one = None;
    let kl = targets.map(|targets| {
        let softened = if config.temperature == 1.0 { logits.clone() } else { logits.clone() / config.temperature };
        let log_z = log_sum_exp(softened.clone());
        log_z_at_one = (config.temperature == 1.0).then(|| log_z.clone());
        forward_kl(softened, log_z, targets).sum()
    });
    let cross_entropy = (config.alpha < 1.0).then(|| {
        let gold = int_tensor(&batch.gold_ids, [count, 1], &device);
        let log_z = log_z_at_one.unwrap_or_else(|| log_sum_exp(logits.clone()));
        cross_entropy(logits, log_z, gold).sum()
    });
    let soft = kl.clone().map(|kl| kl * (config.alpha * config.temperature.powi(2)));
    let hard = cross_entropy.clone().map(|ce| ce * (1.0 - config.alpha));
    let total = match (soft, hard) {
        (Some(soft), Some(hard)) => soft + hard,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => Tensor::zeros([1], &device),
    };
    LossSums { total, kl, cross_entropy }
}

/// log sum exp over the last dimension. x: \[n, classes\]; output: \[n, 1\]. One buffer of x's size for the backward,
/// where a log-softmax keeps several.
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let max = x.clone().detach().max_dim(1);
    (x - max.clone()).exp().sum_dim(1).log() + max
}
