//! The training section of a recipe.

use crate::LrSchedule;
use logitcask_core::SamplePruning;
use serde::{Deserialize, Serialize};

/// How a student is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Maximum number of optimizer steps.
    pub steps: u64,
    /// Number of samples in a step.
    pub batch_size: usize,
    /// Number of equal parts into which a step's samples are divided, with their gradients added up: one after the
    /// other on a GPU, to save memory, and in parallel on a CPU, to use its cores.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Number of steps of linear warm-up.
    #[serde(default)]
    pub warmup: u64,
    /// Learning rate schedule after the warm-up.
    #[serde(default)]
    pub schedule: LrSchedule,
    /// Decoupled weight decay of matrices; norms are never decayed.
    #[serde(default = "default_decay")]
    pub weight_decay: f64,
    /// Maximum global gradient norm.
    #[serde(default = "default_clip")]
    pub clip_norm: f64,
    /// Determines the initial weights and the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// Number of steps between checkpoints.
    #[serde(default = "default_every")]
    pub checkpoint_every: u64,
    /// Number of steps between evaluations on the validation split; 0 means none.
    #[serde(default)]
    pub validate_every: u64,
    /// Number of evaluations without a lower validation perplexity after which the run ends; its best weights are the
    /// result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Maximum number of tokens of a sample that the student sees. A shorter prefix needs no correction, because a
    /// teacher's row depends only on the tokens before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// Gradually reduces the samples to those on which the student is least certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruning: Option<SamplePruning>,
}

const fn one() -> usize {
    1
}
const fn default_decay() -> f64 {
    0.1
}
const fn default_clip() -> f64 {
    1.0
}
const fn default_every() -> u64 {
    100
}

impl TrainConfig {
    /// Rejects numbers that cannot work.
    pub fn check(&self) -> Result<(), String> {
        if self.steps == 0 || self.batch_size == 0 || self.checkpoint_every == 0 {
            return Err("[train] steps, batch_size and checkpoint_every must be at least 1".into());
        }
        if self.accumulate == 0 || !self.batch_size.is_multiple_of(self.accumulate) {
            return Err(format!(
                "[train] accumulate = {} does not divide batch_size = {}",
                self.accumulate, self.batch_size
            ));
        }
        if !(self.learning_rate > 0.0
            && self.learning_rate.is_finite()
            && self.clip_norm > 0.0
            && self.weight_decay >= 0.0)
        {
            return Err("[train] learning_rate and clip_norm must be positive, weight_decay not negative".into());
        }
        if self.max_length.is_some_and(|length| length < 2) {
            return Err("[train] max_length must be at least 2: one token and the next".into());
        }
        if self.patience.is_some() && self.validate_every == 0 {
            return Err("[train] patience needs validate_every".into());
        }
        if let Some(pruning) = self.pruning {
            pruning.check().map_err(|error| error.within("pruning").within("[train]").to_string())?;
        }
        self.schedule.check()
    }
}
