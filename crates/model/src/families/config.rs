//! The config of a decoder: keys of a recipe's `[student]`, and what is read of config.json.

use super::ModelType;
use crate::Model;
use crate::parameters::{ParameterBuilder, Values};
use crate::rope::RopeScaling;
use burn::tensor::{DType, Device};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};

/// Shape and constants of a decoder of any family, with Hugging Face's names.
///
/// Families differ in which of the optional keys they have: [`Self::resolved`] refuses a key that the family lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The family; if left out: `llama`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) model_type: ModelType,
    /// Number of classes; if a recipe leaves it out (0), it is taken from the cache or the tokenizer.
    #[serde(default)]
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Width of the SwiGLU feed-forward network.
    pub(crate) intermediate_size: usize,
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

/// More layers than any decoder has: a larger number indicates a damaged file.
const MAX_LAYERS: usize = 4096;
/// More parameters than any decoder has. Below it no product of sizes overflows 64 bits.
const MAX_PARAMETERS: u128 = 1 << 44;

const fn default_eps() -> f64 {
    1e-5
}
const fn default_theta() -> f64 {
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
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: 0,
            max_position_embeddings: 0,
            rms_norm_eps: default_eps(),
            rope_theta: default_theta(),
            rope_scaling: None,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: None,
            layer_types: Vec::new(),
            tie_word_embeddings: default_tied(),
            bos_token_id: None,
            eos_token_id: Vec::new(),
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
        self.check_sizes()?;
        self.check_optional()?;
        if let Some(scaling) = &mut self.rope_scaling {
            scaling.resolve(self.max_position_embeddings).map_err(|error| error.within("rope_scaling"))?;
        }
        let is_finite = self.speeds().are_finite();
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

    /// Creates a model on `device` in `dtype`. `values` returns the f32 values of the parameter with a name and a
    /// shape, both Hugging Face's, in row-major order.
    pub(crate) fn build<E>(&self, device: &Device, dtype: DType, values: Values<'_, E>) -> Result<Model, E> {
        Model::build(self, &mut ParameterBuilder::new(self.tensors(), device, dtype, values))
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

    /// Checks that sizes and constants are consistent.
    fn check_sizes(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        for (key, size) in sizes {
            ConfigError::unless((1..=1 << 24).contains(&size), key, size, "at least 1 and at most 2^24")?;
        }
        let (layers, eps, theta) = (self.num_hidden_layers, self.rms_norm_eps, self.rope_theta);
        ConfigError::unless(layers <= MAX_LAYERS, "num_hidden_layers", layers, format!("at most {MAX_LAYERS}"))?;
        let is_number = eps >= 0.0 && eps.is_finite();
        ConfigError::unless(is_number, "rms_norm_eps", eps, "a finite number, at least 0")?;
        ConfigError::unless(theta > 0.0 && theta.is_finite(), "rope_theta", theta, "a finite number above 0")?;
        let (heads, of_keys) = (self.num_attention_heads, self.num_key_value_heads);
        let expected = format!("a multiple of num_key_value_heads = {of_keys}");
        ConfigError::unless(heads.is_multiple_of(of_keys), "num_attention_heads", heads, expected)?;
        ConfigError::unless(self.head_dim.is_multiple_of(2), "head_dim", self.head_dim, "even")
            .map_err(|error| error.because("rotary embedding turns pairs"))?;
        let count = self.parameter_count();
        ConfigError::unless(count <= MAX_PARAMETERS, "hidden_size", self.hidden_size, "smaller")
            .map_err(|error| error.because(format!("the sizes come to {count} parameters, and at most 2^44 are read")))
    }

    /// Checks that there is no key that the family's models do not have.
    fn check_optional(&self) -> Result<(), ConfigError> {
        let has = self.model_type.family().optional_keys();
        let optional = [
            ("attention_bias", self.attention_bias.to_string(), self.attention_bias),
            ("mlp_bias", self.mlp_bias.to_string(), self.mlp_bias),
            ("sliding_window", self.sliding_window.unwrap_or(0).to_string(), self.sliding_window.is_some()),
            ("layer_types", format!("{:?}", self.layer_types), !self.layer_types.is_empty()),
        ];
        for (key, got, is_set) in optional {
            let expected = format!("left out: `{}` models have no such setting", self.model_type.name());
            ConfigError::unless(!is_set || has.contains(&key), key, got, expected)?;
        }
        Ok(())
    }

    /// Gives windows the one form that [`Self::layer_types`](field@Self::layer_types) describes, so that equal models
    /// have equal configs: there are types only if layers differ.
    fn resolve_windows(&mut self) -> Result<(), ConfigError> {
        let (types, layers) = (self.layer_types.len(), self.num_hidden_layers);
        if types == 0 {
            return Ok(());
        }
        let expected = format!("one for each of the {layers} layers");
        ConfigError::unless(types == layers, "layer_types", format!("{types} kinds"), expected)?;
        let windowed = self.layer_types.iter().filter(|kind| **kind == LayerType::Sliding).count();
        if windowed == 0 {
            self.sliding_window = None;
        } else if self.sliding_window.is_none() {
            return Err(ConfigError::missing("sliding_window", "the window of the layers of kind `sliding_attention`"));
        }
        if windowed == 0 || windowed == layers {
            self.layer_types.clear();
        }
        Ok(())
    }
}

/// Hugging Face's format of a list of tokens: a number for a single token, and a list for several.
mod one_or_several {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a token id or a list of token ids")]
    enum OneOrSeveral {
        One(u32),
        Several(Vec<u32>),
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        Ok(match OneOrSeveral::deserialize(deserializer)? {
            OneOrSeveral::One(id) => vec![id],
            OneOrSeveral::Several(ids) => ids,
        })
    }

    pub fn serialize<S: Serializer>(ids: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        match ids {
            [id] => id.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}
