//! Falcon with rotary positions.

use super::hf::{flag, said};
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::Activation;
use crate::decoder::Order;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const OUTSIDE: &[(&str, &str)] =
    &[("model.embed_tokens", "transformer.word_embeddings"), ("model.norm", "transformer.ln_f")];

const PARTS: &[(&str, &str, Rows)] = &[
    ("self_attn.q_proj", "self_attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.k_proj", "self_attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.v_proj", "self_attention.query_key_value", Rows::FusedByGroup),
    ("self_attn.o_proj", "self_attention.dense", Rows::Whole),
    ("mlp.up_proj", "mlp.dense_h_to_4h", Rows::Whole),
    ("mlp.down_proj", "mlp.dense_4h_to_h", Rows::Whole),
];

/// The new architecture with two norms.
const NEW: &[(&str, &str, Rows)] = &[
    ("input_layernorm", "ln_attn", Rows::Whole),
    PARTS[0],
    PARTS[1],
    PARTS[2],
    PARTS[3],
    ("post_attention_layernorm", "ln_mlp", Rows::Whole),
    PARTS[4],
    PARTS[5],
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether each group of query heads has its own key head, and layers have two norms.
    new_decoder_architecture: bool,
    /// Whether attention and feed-forward network have the same input.
    parallel_attn: bool,
    /// Number of norms of a layer of the new architecture.
    num_ln_in_parallel_attn: Option<u32>,
    /// Whether projections have biases.
    bias: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { new_decoder_architecture: false, parallel_attn: true, num_ln_in_parallel_attn: None, bias: false }
    }
}

/// Falcon's family.
pub(super) struct Falcon;

impl Family for Falcon {
    fn architecture(&self) -> &'static str {
        "FalconForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, hidden_act: Activation::Gelu, is_tied: true, ..Defaults::new(2048) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("intermediate_size", "ffn_hidden_size"),
            ("rms_norm_eps", "layer_norm_epsilon"),
            ("hidden_act", "activation"),
            ("num_key_value_heads", "num_kv_heads"),
        ]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["multi_query", "n_layer", "n_head"]
    }

    /// Before the new architecture one key head served all queries (`multi_query`), or each query head had its own,
    /// whatever `num_kv_heads` says.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        for (theirs, ours) in [("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads")] {
            if let Some(value) = said(all, theirs) {
                keys.entry(ours).or_insert(value.clone());
            }
        }
        let inner = keys.get("hidden_size").and_then(Value::as_u64).map(|size| json!(4 * size));
        keys.entry("intermediate_size").or_insert(json!(inner));
        let heads = keys.get("num_attention_heads").cloned().unwrap_or_default();
        let of_keys = match (flag(all, "new_decoder_architecture", false)?, flag(all, "multi_query", true)?) {
            (true, _) => said(all, "num_key_value_heads").cloned().unwrap_or(heads),
            (false, true) => json!(1),
            (false, false) => heads,
        };
        keys.insert("num_key_value_heads".to_owned(), of_keys);
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Settings = config.settings();
        if own.new_decoder_architecture {
            // Its layers are always parallel; with two norms unless it is said otherwise.
            config.settings.remove("parallel_attn");
            if own.num_ln_in_parallel_attn == Some(2) {
                config.settings.remove("num_ln_in_parallel_attn");
            }
        } else {
            let expected = "left out: only the new architecture has it";
            let norms =
                own.num_ln_in_parallel_attn.filter(|_| config.settings.remove("num_ln_in_parallel_attn").is_some());
            ConfigError::unless(norms.is_none_or(|n| n == 1), "num_ln_in_parallel_attn", norms.unwrap_or(0), expected)?;
            let (heads, of_keys) = (config.num_attention_heads, config.num_key_value_heads);
            let expected = format!("1 or {heads}: only the new architecture has groups");
            ConfigError::unless(of_keys == 1 || of_keys == heads, "num_key_value_heads", of_keys, expected)?;
        }
        config.require_own_head_dim()
    }

    fn written(&self, config: &ModelConfig) -> Value {
        json!({"multi_query": config.num_key_value_heads == 1, "alibi": false})
    }

    fn keys_not_written(&self) -> &'static [&'static str] {
        &["head_dim"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let (is_new, is_parallel) = (own.new_decoder_architecture, own.parallel_attn);
        let has_two = !is_parallel || is_new && own.num_ln_in_parallel_attn != Some(1);
        Blocks {
            order: if is_parallel { Order::Parallel } else { Order::Sequential },
            norms: [true, false, has_two, false],
            gate: false,
            ..Blocks::with_layer_norms().with_biases(own.bias)
        }
    }

    fn names(&self, config: &ModelConfig) -> Names {
        let own: Settings = config.settings();
        let is_new = own.new_decoder_architecture && own.num_ln_in_parallel_attn != Some(1);
        Names { outside: OUTSIDE, layers: Some("transformer.h."), parts: if is_new { NEW } else { PARTS } }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let plain = json!({"head_dim": 0, "hidden_size": 16});
        let with = |more: Value| -> Value {
            [plain.clone(), more].iter().filter_map(Value::as_object).flat_map(Clone::clone).collect()
        };
        vec![
            with(json!({"num_key_value_heads": 1})),
            with(json!({"num_key_value_heads": 4, "parallel_attn": false, "bias": true})),
            with(json!({"new_decoder_architecture": true, "tie_word_embeddings": false})),
            with(json!({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 1})),
        ]
    }
}
