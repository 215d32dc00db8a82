//! What a recipe says about the loss, and what it may say over which cache.

use logitcask_core::{Divergence, Keep, TailPolicy};
use serde::{Deserialize, Serialize};

/// alpha · T² · divergence + (1 - alpha) · cross entropy on the labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the soft targets, 0 (labels only) to 1 (teacher only).
    pub alpha: f64,
    /// How teacher and student are compared.
    #[serde(default)]
    pub divergence: Divergence,
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
    pub const LABELS: Self = Self {
        alpha: 0.0,
        divergence: Divergence::ForwardKl {},
        temperature: 1.0,
        tail: TailPolicy::Bucket,
        classes: None,
    };

    /// The teacher only: forward KL with a bucket at T = 1.
    pub const FORWARD_KL: Self = Self { alpha: 1.0, ..Self::LABELS };

    /// Refuses what is no weight, no temperature and no divergence.
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
        let divergence = self.divergence.check().and_then(|()| self.divergence.fits(self.tail));
        divergence.map_err(|problem| format!("[loss] divergence: {problem}"))
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
        if self.tail == TailPolicy::Sampled && !keep.is_sampled() {
            return Err("[loss] tail = \"sampled\" needs classes drawn by lot, and this cache has none (column \
                        `drawn_counts`); make it with [cache] selection = { kind = \"sample\", n = 32 }, or use \
                        tail = \"bucket\""
                .into());
        }
        match keep.tail {
            Some(tail)
                if self.tail != TailPolicy::Renormalize
                    && !(tail.lowest_temperature..=tail.highest_temperature).contains(&self.temperature) =>
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
