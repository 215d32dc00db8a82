//! The shape of a Llama-family model.

use crate::families::{FamilyConfig, Initial};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The embedding's name, which is also the head's if they are tied.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The name of the last norm.
pub(super) const NORM: &str = "model.norm.weight";
/// The name of a separate head.
pub(super) const HEAD: &str = "lm_head.weight";

/// The full name of a part of a layer.
pub(super) fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

/// Shape and constants of a Llama-family decoder, with Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Number of classes; if a recipe leaves it out (0), it is taken from the cache or the tokenizer.
    #[serde(default)]
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU feed-forward network.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; each is shared by a group of query heads (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Width of a head; if left out (0): hidden_size / num_attention_heads.
    #[serde(default)]
    pub head_dim: usize,
    /// Maximum sequence length; if left out (0): the dataset's window length.
    #[serde(default)]
    pub max_position_embeddings: usize,
    /// Epsilon inside the square root of every norm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Whether the embedding is also the head.
    #[serde(default = "default_tied")]
    pub tie_word_embeddings: bool,
    /// Token that starts a text, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text; a chat model has several, of which the first ends a document. In a file one token is a
    /// number, and several are a list.
    #[serde(default, with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub eos_token_id: Vec<u32>,
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

impl LlamaConfig {
    /// Fills in values that a recipe may leave out, and checks that the values are consistent.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    pub fn resolved(mut self, vocab_size: usize, max_length: usize) -> Result<Self, ConfigError> {
        self.resolve(vocab_size, max_length)?;
        Ok(self)
    }

    /// Checks that the values are consistent.
    fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
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

    /// Number of parameters, computed from the sizes alone: no names are created, and nothing overflows whatever the
    /// sizes are.
    fn parameter_count(&self) -> u128 {
        let wide = |n: usize| n as u128;
        let (d, f) = (wide(self.hidden_size), wide(self.intermediate_size));
        let [q, kv] = [self.num_attention_heads, self.num_key_value_heads].map(|n| wide(n) * wide(self.head_dim));
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        let layer = 2 * d + 2 * q * d + 2 * kv * d + 3 * f * d;
        embeddings * wide(self.vocab_size) * d + wide(self.num_hidden_layers) * layer + d
    }
}

impl FamilyConfig for LlamaConfig {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    fn max_position_embeddings(&self) -> usize {
        self.max_position_embeddings
    }

    fn bos_token_id(&self) -> Option<u32> {
        self.bos_token_id
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_id
    }

    fn set_special_tokens(&mut self, bos: Option<u32>, eos: Vec<u32>) {
        (self.bos_token_id, self.eos_token_id) = (bos, eos);
    }

    fn resolve(&mut self, vocab_size: usize, max_length: usize) -> Result<(), ConfigError> {
        if self.vocab_size == 0 {
            self.vocab_size = vocab_size;
        }
        if self.max_position_embeddings == 0 {
            self.max_position_embeddings = max_length;
        }
        if self.head_dim == 0 {
            self.head_dim = self.hidden_size / self.num_attention_heads.max(1);
        }
        self.check()
    }

    fn parameters(&self) -> usize {
        usize::try_from(self.parameter_count()).unwrap_or(usize::MAX)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut all = vec![(EMBEDDING.to_owned(), vec![self.vocab_size, d])];
        for layer in 0..self.num_hidden_layers {
            let parts: [(&str, &[usize]); 9] = [
                ("input_layernorm", &[d]),
                ("self_attn.q_proj", &[q, d]),
                ("self_attn.k_proj", &[kv, d]),
                ("self_attn.v_proj", &[kv, d]),
                ("self_attn.o_proj", &[d, q]),
                ("post_attention_layernorm", &[d]),
                ("mlp.gate_proj", &[f, d]),
                ("mlp.up_proj", &[f, d]),
                ("mlp.down_proj", &[d, f]),
            ];
            all.extend(parts.map(|(part, shape)| (in_layer(layer, part), shape.to_vec())));
        }
        all.push((NORM.to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            all.push((HEAD.to_owned(), vec![self.vocab_size, d]));
        }
        all
    }

    fn head_name(&self) -> &'static str {
        HEAD
    }

    fn tied_embedding(&self) -> Option<&'static str> {
        self.tie_word_embeddings.then_some(EMBEDDING)
    }

    /// Older files contain rotary angles, which every reader computes itself.
    fn is_ignored(&self, name: &str) -> bool {
        name.ends_with(".rotary_emb.inv_freq")
    }

    /// Normal weights of deviation 0.02, scaled by 1 / sqrt(2 · layers) for those that write into the residual stream;
    /// norms are one.
    fn initial(&self, name: &str) -> Initial {
        if name.ends_with("norm.weight") {
            return Initial::Constant(1.0);
        }
        let into_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let scale = if into_residual { (2.0 * self.num_hidden_layers as f64).sqrt() } else { 1.0 };
        Initial::Normal { deviation: 0.02 / scale }
    }

    fn hf_keys(&self) -> Map<String, Value> {
        self.written()
    }

    fn identity(&self) -> Value {
        let Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps,
            rope_theta,
            tie_word_embeddings,
            // The training length does not affect the logits, nor do the tokens that delimit texts.
            max_position_embeddings: _,
            bos_token_id: _,
            eos_token_id: _,
        } = self;
        let mut keys = json!({
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "intermediate_size": intermediate_size,
            "num_hidden_layers": num_hidden_layers,
            "num_attention_heads": num_attention_heads,
        });
        let with_defaults = [
            ("num_key_value_heads", json!(num_key_value_heads), json!(num_attention_heads)),
            ("head_dim", json!(head_dim), json!(hidden_size / num_attention_heads)),
            ("rms_norm_eps", json!(rms_norm_eps), json!(1e-6)),
            ("rope_theta", json!(rope_theta), json!(10_000.0)),
            ("tie_word_embeddings", json!(tie_word_embeddings), json!(false)),
        ];
        for (key, value, default) in with_defaults {
            if value != default {
                keys[key] = value;
            }
        }
        keys
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LlamaConfig {
        serde_json::from_value(serde_json::json!({
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2,
        }))
        .unwrap()
    }

    #[test]
    fn parameters_are_those_of_the_tensors() {
        for tie_word_embeddings in [true, false] {
            let config = LlamaConfig { tie_word_embeddings, ..config() }.resolved(0, 16).unwrap();
            let sizes = config.tensors().into_iter().map(|(_, shape)| shape.iter().product::<usize>());
            assert_eq!(config.parameters(), sizes.sum::<usize>());
        }
    }

    #[test]
    fn sizes_beyond_any_model_are_refused_by_arithmetic() {
        let most = 1 << 24;
        for (config, message) in [
            (
                LlamaConfig { num_hidden_layers: most, ..config() },
                "num_hidden_layers = 16777216 was given, but it must be at most 4096",
            ),
            (
                LlamaConfig { hidden_size: most, intermediate_size: most, head_dim: 2, ..config() },
                "parameters, and at most",
            ),
            (LlamaConfig { num_attention_heads: most, num_key_value_heads: most, head_dim: most, ..config() }, "2^44"),
            (LlamaConfig { rms_norm_eps: f64::NAN, ..config() }, "rms_norm_eps = NaN"),
            (LlamaConfig { rope_theta: f64::INFINITY, ..config() }, "rope_theta = inf"),
        ] {
            let error = config.resolved(0, 16).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn one_end_token_is_a_number_several_are_a_list() {
        for (eos_token_id, written) in [(vec![7], "7"), (vec![7, 8], "[7,8]")] {
            let config = LlamaConfig { eos_token_id, ..config() };
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!(value["eos_token_id"].to_string(), written);
            assert_eq!(serde_json::from_value::<LlamaConfig>(value).unwrap(), config);
        }
        assert!(serde_json::to_value(config()).unwrap().get("eos_token_id").is_none());
    }
}
