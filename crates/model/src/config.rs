//! The shape of a Llama-family model, read from and written as Hugging Face's config.json.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Shape and constants of a Llama-family decoder, under Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Number of classes; in a recipe it may be left out (0): the cache or tokenizer knows it.
    #[serde(default)]
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the SwiGLU feed-forward.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; query heads are shared out among them (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Width of a head; left out (0): hidden_size / num_attention_heads.
    #[serde(default)]
    pub head_dim: usize,
    /// Longest sequence; left out (0): the dataset's window length.
    #[serde(default)]
    pub max_position_embeddings: usize,
    /// Epsilon inside the root of every norm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Is the head the embedding itself?
    #[serde(default = "default_tied")]
    pub tie_word_embeddings: bool,
    /// Token that starts a text, if the model knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Token that ends a text, if the model knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<u32>,
}

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
    /// Fills what a recipe may leave out and checks that the numbers fit one another.
    pub fn resolved(mut self, vocab_size: usize, max_length: usize) -> std::result::Result<Self, String> {
        if self.vocab_size == 0 {
            self.vocab_size = vocab_size;
        }
        if self.max_position_embeddings == 0 {
            self.max_position_embeddings = max_length;
        }
        if self.head_dim == 0 {
            self.head_dim = self.hidden_size / self.num_attention_heads.max(1);
        }
        self.check()?;
        Ok(self)
    }

    /// Checks that the numbers fit one another.
    pub fn check(&self) -> std::result::Result<(), String> {
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
        if let Some((name, _)) = sizes.iter().find(|(_, size)| !(1..=1 << 24).contains(size)) {
            return Err(format!("`{name}` must be at least 1 and at most 2^24"));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim = {} is odd; rotary embedding turns pairs", self.head_dim));
        }
        Ok(())
    }

    /// Every parameter with its Hugging Face name and shape (linear weights are \[out, in\] there).
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, d])];
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
            all.extend(parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape.to_vec())));
        }
        all.push(("model.norm.weight".to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab_size, d]));
        }
        all
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Reads Hugging Face's config.json. Refuses what would change the forward and is not implemented (biases, scaled
    /// rotary embedding, other activations) instead of ignoring it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let refuse = |problem: String| Error::Config { path: path.to_owned(), problem };
        let all: Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| refuse(format!("not a JSON object: {e}")))?;
        Self::from_hf(&all).map_err(refuse)
    }

    fn from_hf(all: &Map<String, Value>) -> std::result::Result<Self, String> {
        refuse_unsupported(all)?;
        let mut own = Map::new();
        for key in OWN_KEYS {
            if let Some(value) = all.get(key).filter(|value| !value.is_null()) {
                own.insert(key.to_owned(), value.clone());
            }
        }
        // Newer files keep theta inside `rope_parameters`; several end tokens may be listed, the first one ends a text.
        if let Some(theta) = all.get("rope_parameters").and_then(|rope| rope.get("rope_theta")) {
            own.insert("rope_theta".to_owned(), theta.clone());
        }
        for key in ["bos_token_id", "eos_token_id"] {
            if let Some(first) = own.get(key).and_then(|ids| ids.get(0)).cloned() {
                own.insert(key.to_owned(), first);
            }
        }
        own.entry("num_key_value_heads")
            .or_insert_with(|| all.get("num_attention_heads").cloned().unwrap_or(Value::Null));
        // Hugging Face's own defaults where a file leaves these out.
        own.entry("tie_word_embeddings").or_insert(json!(false));
        own.entry("rms_norm_eps").or_insert(json!(1e-6));
        own.entry("max_position_embeddings").or_insert(json!(2048));
        let config: Self = serde_json::from_value(Value::Object(own)).map_err(|e| e.to_string())?;
        config.resolved(0, 0)
    }

    /// The config.json that `transformers` opens as a `LlamaForCausalLM`.
    pub fn to_hf(&self, dtype: &str) -> Value {
        let mut value = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "mlp_bias": false,
            "rope_scaling": null,
            "torch_dtype": dtype,
            "use_cache": true,
        });
        if let (Value::Object(all), Ok(Value::Object(own))) = (&mut value, serde_json::to_value(self)) {
            all.extend(own);
        }
        value
    }
}

const OWN_KEYS: [&str; 13] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
];

fn refuse_unsupported(all: &Map<String, Value>) -> std::result::Result<(), String> {
    let model_type = all.get("model_type").and_then(Value::as_str).unwrap_or("missing");
    if model_type != "llama" {
        return Err(format!("model_type is `{model_type}`, this build opens `llama`"));
    }
    for key in ["attention_bias", "mlp_bias"] {
        if all.get(key).and_then(Value::as_bool).unwrap_or(false) {
            return Err(format!("`{key}` is true; models with biases are not supported"));
        }
    }
    match all.get("hidden_act").and_then(Value::as_str) {
        None | Some("silu") => {}
        Some(other) => return Err(format!("hidden_act is `{other}`, this build knows `silu`")),
    }
    let rope_type = |rope: &Value| {
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        kind.and_then(Value::as_str).unwrap_or("unnamed").to_owned()
    };
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(rope) = all.get(key).filter(|v| !v.is_null()) {
            let kind = rope_type(rope);
            if kind != "default" {
                return Err(format!("`{key}` asks for rotary embedding of type `{kind}`, this build knows `default`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(changes: Value) -> std::result::Result<LlamaConfig, String> {
        let mut all = json!({
            "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 16, "some_new_key": 1,
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        LlamaConfig::from_hf(all.as_object().unwrap())
    }

    #[test]
    fn hf_defaults_apply_where_a_file_is_silent() {
        let config =
            hf(json!({"eos_token_id": [7, 8], "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
        let config = config.unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim, config.tie_word_embeddings), (4, 8, false));
        assert_eq!((config.rms_norm_eps, config.rope_theta, config.eos_token_id), (1e-6, 5e5, Some(7)));
    }

    #[test]
    fn what_would_change_the_forward_is_refused() {
        for (change, message) in [
            (json!({"model_type": "gpt2"}), "gpt2"),
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "llama3"),
            (json!({"num_key_value_heads": 3}), "multiple"),
            (json!({"head_dim": 7}), "odd"),
            (json!({"hidden_size": null}), "hidden_size"),
        ] {
            let error = hf(change).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn written_config_reads_back() {
        let config = hf(json!({"tie_word_embeddings": true, "bos_token_id": 0})).unwrap();
        assert_eq!(LlamaConfig::from_hf(config.to_hf("float32").as_object().unwrap()).unwrap(), config);
    }
}
