//! The interface of a family: a config, and the model that is made from it.

use crate::CausalLm;
use crate::parameters::ParameterBuilder;
use logitcask_core::ConfigError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The interface of every family's config.
pub trait FamilyConfig {
    /// Number of classes: rows of the head.
    fn vocab_size(&self) -> usize;

    /// Length of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Maximum sequence length that the model was made for, in tokens; 0 if a recipe leaves it to its data.
    fn max_position_embeddings(&self) -> usize;

    /// Token that starts a text, if the model has one.
    fn bos_token_id(&self) -> Option<u32>;

    /// Tokens that end a text, with the end of a document first; empty if the model has none.
    fn eos_token_ids(&self) -> &[u32];

    /// Replaces the tokens that start and end a text.
    fn set_special_tokens(&mut self, bos: Option<u32>, eos: Vec<u32>);

    /// Fills in values that a recipe may leave out, including the number of classes and the context length, and checks
    /// that the values are consistent.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    fn resolve(&mut self, vocab_size: usize, max_length: usize) -> Result<(), ConfigError>;

    /// Number of parameters, computed from the sizes alone, so that it is available before anything is read or created.
    fn parameters(&self) -> usize;

    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there).
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The name of a separate head, whether this model has one or not.
    fn head_name(&self) -> &'static str;

    /// The embedding's name if it is also the head.
    fn tied_embedding(&self) -> Option<&'static str>;

    /// Whether a file may contain this tensor although no parameter is made from it.
    fn is_ignored(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Initial values of the parameter with this name.
    fn initial(&self, name: &str) -> Initial;

    /// config.json as `transformers` reads it, without `architectures`, `model_type` and `torch_dtype`.
    fn hf_keys(&self) -> Map<String, Value>;

    /// The keys that affect the forward pass, for the fingerprint: an object without `model_type`. See
    /// [`identity`](crate::identity) for which keys are left out.
    fn identity(&self) -> Value;
}

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// The same value everywhere.
    Constant(f32),
    /// Normally distributed values with mean 0.
    Normal {
        /// Their standard deviation.
        deviation: f64,
    },
}

/// Connects a config to its model. Keys of a recipe's `[student]` are those of the config's own `Deserialize`.
pub(super) trait Family: FamilyConfig + Serialize + DeserializeOwned {
    /// The class of `transformers` that opens an export.
    const ARCHITECTURE: &'static str;

    /// The model of this config.
    type Model: CausalLm;

    /// Parses Hugging Face's complete config.json. Unsupported settings that would change the forward pass are errors.
    fn from_hf(all: &Map<String, Value>) -> Result<Self, String>;

    /// Creates a model whose parameters come from the builder.
    fn build<E>(&self, parameters: &mut ParameterBuilder<'_, E>) -> Result<Self::Model, E>;

    /// Small configs with the keys that a recipe may leave out: each way in which the family's models differ (such as a
    /// tied head) at least once. `families::tests` runs them all.
    #[cfg(test)]
    fn examples() -> Vec<Self>;
}
