//! What a family gives: a config, and the model that is made from it.

use crate::CausalLm;
use crate::parameters::ParameterBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What the config of every family tells.
pub trait FamilyConfig {
    /// Number of classes: rows of the head.
    fn vocab_size(&self) -> usize;

    /// Tokens of the longest sequence the model was made for; 0 where a recipe leaves it to its data.
    fn max_position_embeddings(&self) -> usize;

    /// Token that starts a text, if the model knows one.
    fn bos_token_id(&self) -> Option<u32>;

    /// Tokens that end a text, its own end first; none where the model knows none.
    fn eos_token_ids(&self) -> &[u32];

    /// Replaces the tokens that start and end a text.
    fn set_special_tokens(&mut self, bos: Option<u32>, eos: Vec<u32>);

    /// Fills what a recipe may leave out, the number of classes and the context among it, and checks that the numbers fit
    /// one another.
    ///
    /// # Errors
    /// The key that does not fit, and what it may be.
    fn resolve(&mut self, vocab_size: usize, max_length: usize) -> Result<(), String>;

    /// Number of parameters, from the sizes alone: it is asked before anything is read or made.
    fn parameters(&self) -> usize;

    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there).
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The name of a head of its own, whether this model has one or not.
    fn head_name(&self) -> &'static str;

    /// The embedding's name where it is the head too.
    fn tied_embedding(&self) -> Option<&'static str>;

    /// May a file have this tensor although no parameter is made from it?
    fn is_ignored(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// What the parameter of this name holds in a fresh model.
    fn initial(&self, name: &str) -> Initial;

    /// config.json as `transformers` reads it, but for `architectures`, `model_type` and `torch_dtype`.
    fn hf_keys(&self) -> Map<String, Value>;

    /// The keys that shape the forward, for the fingerprint: an object without `model_type`. See
    /// [`identity`](crate::identity) for which are left out.
    fn identity(&self) -> Value;
}

/// What a parameter of a fresh model holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// One number everywhere.
    Constant(f32),
    /// Normal numbers around 0.
    Normal {
        /// Their standard deviation.
        deviation: f64,
    },
}

/// What ties a config to its model. Keys of a recipe's `[student]` are those of the config's own `Deserialize`.
pub(super) trait Family: FamilyConfig + Serialize + DeserializeOwned {
    /// The class of `transformers` that opens an export.
    const ARCHITECTURE: &'static str;

    /// The model of this config.
    type Model: CausalLm;

    /// From Hugging Face's config.json, all of it. What would change the forward and is not implemented is an error.
    fn from_hf(all: &Map<String, Value>) -> Result<Self, String>;

    /// A model whose parameters come from the builder.
    fn build<E>(&self, parameters: &mut ParameterBuilder<'_, E>) -> Result<Self::Model, E>;

    /// Small configs, a recipe's keys as they may be left out: each way in which the family's models differ (a tied head,
    /// say) at least once. `families::tests` runs them all.
    #[cfg(test)]
    fn examples() -> Vec<Self>;
}
