//! How a teacher answers the prompts of a dataset.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a teacher answers the prompts of a dataset. Two datasets with the same settings, prompts and teacher have the
/// same answers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Tokens are drawn among the fewest whose probability reaches this.
    pub top_p: f64,
    /// Maximum number of tokens of an answer. By default, what its prompt leaves of the maximum length of a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Whether answers that reach the maximum length without an end token are left out.
    pub finished_only: bool,
    /// The file that holds the answers, by default beside the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, max_tokens: None, seed: 0, finished_only: false, path: None }
    }
}
