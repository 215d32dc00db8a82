//! The config of a decoder: keys of a recipe's `[student]`, and what is read of config.json.

use super::{ModelType, one_or_several};
use crate::parameters::{ParameterBuilder, Values};
use crate::rope::{RopeScaling, RopeType, RotarySpeeds};
use crate::{Activation, FinalLayers, Model};
use burn::tensor::{DType, Device};
use logitcask_core::ConfigError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Shape and constants of a decoder of any family, with Hugging Face's names.
///
/// Families differ in which of the optional keys they have: [`Self::resolved`] refuses a key that the family lacks. Keys
/// that only one family has are its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ModelConfig {
    /// The family; if left out: `llama`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) model_type: ModelType,
    /// Number of classes; if a recipe leaves it out (0), it is taken from the cache or the tokenizer.
    #[serde(default)]
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Width of the feed-forward network.
    pub(crate) intermediate_size: usize,
    /// Nonlinearity of the feed-forward network; if left out: the family's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hidden_act: Option<Activation>,
    /// Number of decoder layers.
    pub(crate) num_hidden_layers: usize,
    /// Number of query heads.
    pub(crate) num_attention_heads: usize,
    /// Number of key and value heads; each is shared by a group of query heads (grouped-query attention).
    pub(crate) num_key_value_heads: usize,
    /// Width of a head; if left out (0): hidden_size / num_attention_heads.
    #[serde(default)]
    pub(crate) head_dim: usize,
    /// Maximum sequence length; if left out (0): the dataset's window length.
    #[serde(default)]
    pub(crate) max_position_embeddings: usize,
    /// Epsilon inside the square root of every norm.
    #[serde(default = "default_eps")]
    pub(crate) rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub(crate) rope_theta: f64,
    /// Part of a head's dimensions that turns; if left out: the family's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partial_rotary_factor: Option<f64>,
    /// Scaling of the rotary angles for long texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rope_scaling: Option<RopeScaling>,
    /// Whether attention's projections have biases (`qwen2` has some of them without this key).
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) attention_bias: bool,
    /// Whether the feed-forward network's projections have biases.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) mlp_bias: bool,
    /// Number of keys that a query sees, itself among them, in the layers with a window; if left out: all before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sliding_window: Option<usize>,
    /// Which layers have the window; if left out (empty): all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) layer_types: Vec<LayerType>,
    /// Whether the embedding is also the head.
    #[serde(default = "default_tied")]
    pub(crate) tie_word_embeddings: bool,
    /// Token that starts a text, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bos_token_id: Option<u32>,
    /// Tokens that end a text; a chat model has several, of which the first ends a document. In a file one token is a
    /// number, and several are a list.
    #[serde(default, with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub(crate) eos_token_id: Vec<u32>,
    /// The family's own settings, without those at their default.
    #[serde(flatten, skip_deserializing)]
    pub(crate) settings: Map<String, Value>,
    /// The length of texts, where rotary angles depend on it: see [`Self::for_texts_of`].
    #[serde(skip)]
    pub(crate) text_length: TextLength,
}

/// A length that does not tell configs apart, because it says how a model is used and not what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TextLength(pub(crate) Option<usize>);

impl PartialEq for TextLength {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl ModelConfig {
    /// Reads the keys that are no family's own.
    pub(super) fn deserialize_common<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    /// Writes all keys.
    pub(super) fn serialize_all<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// What the attention of a layer sees, with Hugging Face's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerType {
    /// All tokens before it.
    #[serde(rename = "full_attention")]
    Full,
    /// The window.
    #[serde(rename = "sliding_attention")]
    Sliding,
}

const fn default_eps() -> f64 {
    1e-5
}
pub(super) const fn default_theta() -> f64 {
    10_000.0
}
const fn default_tied() -> bool {
    true
}
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The keys of a recipe that leaves out all that it may; sizes that it must name are 0.
impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            model_type: ModelType::default(),
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            hidden_act: None,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: 0,
            max_position_embeddings: 0,
            rms_norm_eps: default_eps(),
            rope_theta: default_theta(),
            partial_rotary_factor: None,
            rope_scaling: None,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: None,
            layer_types: Vec::new(),
            tie_word_embeddings: default_tied(),
            bos_token_id: None,
            eos_token_id: Vec::new(),
            settings: Map::new(),
            text_length: TextLength::default(),
        }
    }
}

impl ModelConfig {
    /// Fills in values that a recipe may leave out, including the number of classes and the context length, and checks
    /// that the values are consistent.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    pub fn resolved(mut self, vocab_size: usize, max_length: usize) -> Result<Self, ConfigError> {
        if self.vocab_size == 0 {
            self.vocab_size = vocab_size;
        }
        if self.max_position_embeddings == 0 {
            self.max_position_embeddings = max_length;
        }
        if self.head_dim == 0 {
            self.head_dim = self.hidden_size / self.num_attention_heads.max(1);
        }
        let family = self.model_type.family();
        let defaults = family.defaults();
        self.hidden_act = self.hidden_act.filter(|act| *act != defaults.hidden_act);
        self.partial_rotary_factor = self.partial_rotary_factor.filter(|part| *part != defaults.partial_rotary_factor);
        family.resolve(&mut self)?;
        self.check_sizes()?;
        self.check_optional()?;
        let part = self.rotary_part();
        if let Some(scaling) = &mut self.rope_scaling {
            let pairs = (self.head_dim as f64 * part) as usize / 2;
            scaling.resolve(self.max_position_embeddings, pairs).map_err(|error| error.within("rope_scaling"))?;
        }
        let is_finite = self.speeds().iter().all(RotarySpeeds::are_finite);
        ConfigError::unless(is_finite, "rope_theta", self.rope_theta, "a base whose angles are finite numbers")?;
        self.resolve_windows()?;
        Ok(self)
    }

    /// The family.
    pub fn model_type(&self) -> ModelType {
        self.model_type
    }

    /// Number of classes: rows of the head, including those of no token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Length of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Maximum sequence length that the model was made for, in tokens; 0 if a recipe leaves it to its data.
    pub fn max_position_embeddings(&self) -> usize {
        self.max_position_embeddings
    }

    /// Token that starts a text, if the model has one.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.bos_token_id
    }

    /// Tokens that end a text, with the end of a document first; empty if the model has none.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_id
    }

    /// The same config with other tokens that start and end a text.
    pub fn with_special_tokens(self, bos: Option<u32>, eos: Vec<u32>) -> Self {
        Self { bos_token_id: bos, eos_token_id: eos, ..self }
    }

    /// The same model for texts of up to this many tokens. With `dynamic` and `longrope` scaling rotary angles depend on
    /// it; without it they are those of texts that are not longer than the model was trained for. `transformers` takes
    /// the longest text of a batch instead, so that a text's logits depend on those beside it.
    pub fn for_texts_of(self, length: usize) -> Self {
        Self { text_length: TextLength(Some(length)), ..self }
    }

    /// Whether rotary angles depend on the length of texts.
    pub fn depends_on_text_length(&self) -> bool {
        let kind = self.rope_scaling.as_ref().map(|scaling| scaling.rope_type);
        kind.is_some_and(|kind| [RopeType::Dynamic, RopeType::Longrope].contains(&kind))
    }

    /// Creates a model on `device` in `dtype`. `values` returns the f32 values of the parameter with a name of
    /// [`Shape::parameters`](crate::decoder::Shape::parameters) and its shape there, in row-major order.
    pub(crate) fn build<E>(&self, device: &Device, dtype: DType, values: Values<'_, E>) -> Result<Model, E> {
        Model::build(self, &mut ParameterBuilder::new(self.shape().parameters(), device, dtype, values))
    }

    /// Creates what follows the last layer in the same way.
    pub(crate) fn build_final_layers<E>(
        &self,
        device: &Device,
        dtype: DType,
        values: Values<'_, E>,
    ) -> Result<FinalLayers, E> {
        let shape = self.shape();
        FinalLayers::build(&shape, &mut ParameterBuilder::new(shape.parameters(), device, dtype, values))
    }

    /// The nonlinearity of the feed-forward network.
    pub(super) fn activation(&self) -> Activation {
        self.hidden_act.unwrap_or(self.model_type.family().defaults().hidden_act)
    }

    /// Part of a head's dimensions that turns.
    pub(super) fn rotary_part(&self) -> f64 {
        self.partial_rotary_factor.unwrap_or(self.model_type.family().defaults().partial_rotary_factor)
    }

    /// Number of dimensions of a head that turn.
    pub(super) fn rotary_width(&self) -> usize {
        (self.head_dim as f64 * self.rotary_part()) as usize
    }

    /// The window of a layer's attention.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.layer_types.get(layer).is_none_or(|kind| *kind == LayerType::Sliding))
    }

    /// The kind of every layer, including those that [`Self::layer_types`](field@Self::layer_types) leaves out.
    pub(super) fn layer_types(&self) -> Vec<LayerType> {
        let kind = |layer| if self.window(layer).is_some() { LayerType::Sliding } else { LayerType::Full };
        (0..self.num_hidden_layers).map(kind).collect()
    }
}
