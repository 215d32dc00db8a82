//! The language model of Gemma 4, where it is dense.

use super::blocks::{FullHeads, Rope};
use super::gemma::Gemma;
use super::gemma2::NORM_NAMES;
use super::hf::{flag, said};
use super::layout::Names;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, towers, windows};
use crate::decoder::{NormKind, QkNorm};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Width of a head in layers without a window.
    global_head_dim: usize,
    /// Number of key and value heads in layers without a window; if left out, that of the others.
    num_global_key_value_heads: Option<usize>,
    /// Whether the values of layers without a window are what their keys are before norm and rotation.
    attention_k_eq_v: bool,
    /// The bound that logits approach.
    final_logit_softcapping: Option<f64>,
    /// Base of the rotary angles in layers with a window.
    rope_local_base_freq: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            global_head_dim: 512,
            num_global_key_value_heads: None,
            attention_k_eq_v: false,
            final_logit_softcapping: None,
            rope_local_base_freq: 10_000.0,
        }
    }
}

/// Gemma4's family.
pub(super) struct Gemma4;

impl Family for Gemma4 {
    fn architecture(&self) -> &'static str {
        "Gemma4ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            num_key_value_heads: Some(4),
            max_position_embeddings: 131_072,
            rope_theta: Some(1e6),
            ..Gemma.defaults()
        }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias", "sliding_window", "layer_types"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("hidden_act", "hidden_activation")]
    }

    /// The last four are sizes of what the models that are read do not have.
    fn keys_read(&self) -> &'static [&'static str] {
        &[
            "per_layer_config",
            "hidden_size_per_layer_input",
            "enable_moe_block",
            "use_bidirectional_attention",
            "use_double_wide_mlp",
            "vocab_size_per_layer_input",
            "moe_intermediate_size",
            "top_k_experts",
        ]
    }

    /// Every sixth layer and the last see everything, the others the window.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        check_dense(all)?;
        let mut windowed = all.clone();
        windowed.entry("sliding_window").or_insert(json!(512));
        windows::read_by_layer(&windowed, keys, |layer| !(layer + 1).is_multiple_of(6));
        let types = keys.get_mut("layer_types").and_then(Value::as_array_mut);
        let types = types.ok_or("`sliding_window` and `layer_types` must be a number and a list")?;
        types.last_mut().into_iter().for_each(|last| *last = json!("full_attention"));
        let types = types.clone();
        if let Some(layers) = said(all, "per_layer_config") {
            keys.extend(global_heads(layers, &types, keys)?);
        } else if keys.get("attention_k_eq_v").is_none_or(|is_on| *is_on != true) {
            keys.remove("num_global_key_value_heads");
        }
        if !all.contains_key("rope_parameters") && !all.contains_key("rope_scaling") {
            let scaling = json!({"rope_type": "proportional", "factor": 1.0, "partial_rotary_factor": 0.25});
            keys.insert("rope_scaling".to_owned(), scaling);
        }
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Settings = config.settings();
        let (head_dim, heads) = (own.global_head_dim, config.num_attention_heads);
        let is_size = (2..=1 << 16).contains(&head_dim) && head_dim.is_multiple_of(2);
        ConfigError::unless(is_size, "global_head_dim", head_dim, "even, at least 2 and at most 2^16")?;
        if let Some(of_keys) = own.num_global_key_value_heads {
            let expected = format!("a divisor of num_attention_heads = {heads}");
            let divides = of_keys > 0 && heads.is_multiple_of(of_keys);
            ConfigError::unless(divides, "num_global_key_value_heads", of_keys, expected)?;
            if of_keys == config.num_key_value_heads {
                config.settings.remove("num_global_key_value_heads");
            }
        }
        let last = config.num_hidden_layers.saturating_sub(1);
        let expected = "a list whose last kind is full_attention, which `transformers` makes of it";
        ConfigError::unless(config.window(last).is_none(), "layer_types", "a window in the last layer", expected)
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let FullHeads { head_dim, kv_count } = full_heads(config);
        let own = json!({"head_dim": head_dim, "num_key_value_heads": kv_count});
        let full = config.full_layers().into_iter().enumerate().filter(|(_, is_full)| *is_full);
        json!({
            "enable_moe_block": false,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "per_layer_config": full.map(|(layer, _)| (layer.to_string(), own.clone())).collect::<Map<_, _>>(),
            // `transformers` reads a number here even where no layer has a window.
            "sliding_window": config.sliding_window.unwrap_or(512),
        })
    }

    /// It would take precedence over `rope_parameters`, which alone tells everything.
    fn keys_not_written(&self) -> &'static [&'static str] {
        &["rope_scaling"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        Blocks {
            norms: [true; 4],
            norm: NormKind::Rms,
            qk_norm: Some(QkNorm::Head),
            v_norm: true,
            full_heads: Some(full_heads(config)),
            full_values_are_keys: own.attention_k_eq_v,
            rope: Rope::LocalBase(own.rope_local_base_freq),
            attention_scale: Some(1.0),
            layer_scalar: true,
            softcap: own.final_logit_softcapping,
            ..Gemma.blocks(config)
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: NORM_NAMES, ..Names::default() }
    }

    fn standard_name(&self, name: &str) -> Option<String> {
        towers::name_in_text_model(name)
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let types = ["sliding_attention", "full_attention"];
        let part = json!({"rope_type": "proportional", "factor": 1.0, "partial_rotary_factor": 0.5});
        vec![
            json!({"sliding_window": 3, "layer_types": types, "global_head_dim": 8, "num_global_key_value_heads": 1,
                "attention_k_eq_v": true, "rope_scaling": part, "rope_local_base_freq": 50.0}),
            json!({"global_head_dim": 4, "final_logit_softcapping": 3.0, "attention_bias": true}),
        ]
    }
}

/// The heads of layers without a window.
fn full_heads(config: &ModelConfig) -> FullHeads {
    let own: Settings = config.settings();
    let kv_count = own.num_global_key_value_heads.unwrap_or(config.num_key_value_heads);
    FullHeads { head_dim: own.global_head_dim, kv_count }
}

/// Refuses models with embeddings or keys that belong to several layers, and mixtures of experts.
fn check_dense(all: &Map<String, Value>) -> Result<(), String> {
    let per_layer = all.get("hidden_size_per_layer_input").unwrap_or(&json!(256)).clone();
    if per_layer != 0 && !per_layer.is_null() {
        return Err(format!(
            "`hidden_size_per_layer_input` is {per_layer} (256 if it is left out): this build has no embeddings for \
             single layers and opens dense `gemma4_text` models only"
        ));
    }
    if flag(all, "enable_moe_block", false)? {
        return Err("`enable_moe_block` is true: this build opens dense `gemma4_text` models only".to_owned());
    }
    // Between images alone it changes nothing in texts.
    match said(all, "use_bidirectional_attention").filter(|kind| **kind != "vision" && **kind != false) {
        Some(kind) => Err(format!("`use_bidirectional_attention` is {kind}; here attention is causal")),
        None => Ok(()),
    }
}

/// The settings that a table of the layers which differ from the config has instead of two of its own keys.
fn global_heads(layers: &Value, types: &[Value], keys: &Map<String, Value>) -> Result<[(String, Value); 2], String> {
    let of = |layer: usize| {
        let own = &layers[layer.to_string()];
        ["head_dim", "num_key_value_heads"].map(|key| said_in(own, key).or(keys.get(key)).cloned().unwrap_or_default())
    };
    let config = ["head_dim", "num_key_value_heads"].map(|key| keys.get(key).cloned().unwrap_or_default());
    let is_known = |own: &Value| {
        let mut keys = own.as_object().into_iter().flat_map(Map::keys);
        keys.all(|key| ["head_dim", "num_key_value_heads"].contains(&key.as_str()))
    };
    let full: Vec<usize> = (0..types.len()).filter(|&layer| types[layer] == "full_attention").collect();
    let wanted = of(full.first().copied().unwrap_or_default());
    let expected = |layer| if full.contains(&layer) { &wanted } else { &config };
    let are_alike = (0..types.len()).all(|layer| of(layer) == *expected(layer));
    let mut all = layers.as_object().into_iter().flat_map(Map::values);
    if !layers.is_object() || !are_alike || !all.all(is_known) {
        return Err(format!(
            "`per_layer_config` is {layers}; this build knows `head_dim` and `num_key_value_heads` there, the same for all \
             layers without a window and for no other"
        ));
    }
    let [head_dim, of_keys] = wanted;
    Ok([("global_head_dim".to_owned(), head_dim), ("num_global_key_value_heads".to_owned(), of_keys)])
}

/// The value of a key that is neither absent nor null.
fn said_in<'a>(table: &'a Value, key: &str) -> Option<&'a Value> {
    table.get(key).filter(|value| !value.is_null())
}
