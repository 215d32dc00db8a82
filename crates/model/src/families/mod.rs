//! The families of models that this build knows: a file and a line in the table of [`ModelType`] each.
//!
//! A family says how its config.json is read into the [`ModelConfig`] that all share, and which blocks of the
//! decoder its models have. Nothing else knows one family from another.

mod config;
mod hf;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod windows;

pub use config::{LayerType, ModelConfig};
pub(crate) use hf::object;
pub(crate) use shape::Initial;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The families, with the names that config.json and recipes have for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Llama, and what is built like it.
    #[default]
    Llama,
    /// Mistral: Llama whose attention sees a window.
    Mistral,
    /// Qwen2 and Qwen2.5: Llama with biases of queries, keys and values.
    Qwen2,
    /// Qwen3: Llama with norms of each head's queries and keys.
    Qwen3,
}

impl ModelType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// What is particular to it.
    fn family(self) -> &'static dyn Family {
        match self {
            Self::Llama => &llama::Llama,
            Self::Mistral => &mistral::Mistral,
            Self::Qwen2 => &qwen2::Qwen2,
            Self::Qwen3 => &qwen3::Qwen3,
        }
    }
}

/// The interface of a family.
trait Family {
    /// The class of `transformers` that opens an export.
    fn architecture(&self) -> &'static str;

    /// What a config.json means that leaves a key out.
    fn defaults(&self) -> Defaults;

    /// The keys of [`ModelConfig`] that its models have and those of other families may lack.
    fn optional_keys(&self) -> &'static [&'static str];

    /// Reads what is particular to its config.json into keys of [`ModelConfig`], which already hold the common ones.
    ///
    /// # Errors
    /// A setting that would change the forward pass and is not supported.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String>;

    /// The keys that `transformers` reads besides the common ones.
    fn written(&self, config: &ModelConfig) -> Value;

    /// The blocks of its models.
    fn blocks(&self, config: &ModelConfig) -> Blocks;

    /// Small configs with the keys of a recipe: each way in which the family's models differ at least once.
    #[cfg(test)]
    fn examples(&self) -> Vec<Value>;
}

/// The meanings of keys that a family's config.json leaves out, where families differ.
struct Defaults {
    /// `None`: as many as query heads.
    num_key_value_heads: Option<usize>,
    /// `None`: hidden_size / num_attention_heads.
    head_dim: Option<usize>,
    max_position_embeddings: usize,
}

/// The blocks that not all families have.
#[derive(Default)]
struct Blocks {
    /// Biases of the projections to queries, keys and values.
    qkv_bias: bool,
    /// A bias of the projection of attention's output.
    output_bias: bool,
    /// Norms of each head's queries and keys.
    qk_norm: bool,
    /// Biases of the feed-forward network.
    feed_forward_bias: bool,
}
