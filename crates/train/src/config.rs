//! The training section of a recipe.

use crate::{LoraConfig, LrSchedule, PartConfig, TrainPrecision};
use logitcask_core::{ConfigError, SamplePruning};
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
    /// Decoupled weight decay of matrices; norms and biases are never decayed, except for a head's bias, which is a row of
    /// its matrix.
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
    /// Keeps only the input of each layer for the backward pass, and computes the rest again: less memory for a second
    /// forward pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// Number format of the forward and backward pass. Weights, moments and checkpoints are in f32.
    #[serde(default, skip_serializing_if = "TrainPrecision::is_f32")]
    pub precision: TrainPrecision,
    /// Parts of the student that stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Trains adapters of low rank instead of the student's own weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Settings of parts of the student.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartConfig>,
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
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_keys().map_err(|error| error.within("[train]"))
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        let counts = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("checkpoint_every", self.checkpoint_every),
            ("accumulate", self.accumulate as u64),
        ];
        for (key, count) in counts {
            ConfigError::unless(count > 0, key, count, "at least 1")?;
        }
        let divides = self.batch_size.is_multiple_of(self.accumulate);
        let divisor = format!("a divisor of batch_size = {}", self.batch_size);
        ConfigError::unless(divides, "accumulate", self.accumulate, divisor)?;
        let rate = self.learning_rate;
        ConfigError::unless(rate > 0.0 && rate.is_finite(), "learning_rate", rate, "a positive number")?;
        ConfigError::unless(self.clip_norm > 0.0, "clip_norm", self.clip_norm, "a positive number")?;
        let decay = self.weight_decay;
        ConfigError::unless(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "a number of at least 0")?;
        if let Some(length) = self.max_length {
            ConfigError::unless(length >= 2, "max_length", length, "at least 2, one token and the next")?;
        }
        ConfigError::unless(self.patience != Some(0), "patience", 0, "at least 1, or left out for none")?;
        if let Some(patience) = self.patience.filter(|_| self.validate_every == 0) {
            return Err(ConfigError::new("patience", patience, "left out where validate_every is 0"));
        }
        if let Some(pruning) = self.pruning {
            pruning.check().map_err(|error| error.within("pruning"))?;
        }
        self.schedule.check().map_err(|error| error.within("schedule"))?;
        if let Some(lora) = &self.lora {
            lora.check().map_err(|error| error.within("lora"))?;
            ConfigError::unless(self.freeze.is_empty(), "freeze", format!("{:?}", self.freeze), "left out beside lora")
                .map_err(|error| error.because("with adapters, nothing else is trained"))?;
        }
        for (i, part) in self.parts.iter().enumerate() {
            part.check().map_err(|error| error.within(&format!("parts[{i}]")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let refused = |line: &str| {
            let keys = format!("{{\"steps\": 1, \"batch_size\": 1, \"learning_rate\": 0.1, {line}}}");
            let mut config: TrainConfig = serde_json::from_str(&keys).unwrap();
            // JSON has no infinity, TOML has.
            config.weight_decay = if config.weight_decay == 9.0 { f64::INFINITY } else { config.weight_decay };
            config.check().err().map(|error| error.to_string())
        };
        assert_eq!(refused("\"validate_every\": 1, \"patience\": 1"), None);
        for (line, expected) in [
            ("\"weight_decay\": 9", "[train] weight_decay = inf was given, but it must be a number of at least 0"),
            ("\"weight_decay\": -1", "[train] weight_decay = -1 was given, but it must be a number of at least 0"),
            ("\"validate_every\": 1, \"patience\": 0", "[train] patience = 0 was given, but it must be at least 1"),
        ] {
            let error = refused(line).unwrap_or_else(|| panic!("{line} is accepted"));
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
