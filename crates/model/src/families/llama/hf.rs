//! Llama's config.json: the keys that this build reads, and those that it rejects.

use super::LlamaConfig;
use serde_json::{Map, Value, json};

impl LlamaConfig {
    /// Rejects settings that would change the forward pass but are not implemented (biases, scaled rotary embedding,
    /// other activations) instead of ignoring them.
    pub(super) fn read(all: &Map<String, Value>) -> Result<Self, String> {
        refuse_unsupported(all)?;
        let mut own = Map::new();
        for key in OWN_KEYS {
            if let Some(value) = all.get(key).filter(|value| !value.is_null()) {
                own.insert(key.to_owned(), value.clone());
            }
        }
        // Newer files store theta inside `rope_parameters`.
        let theta = all.get("rope_parameters").and_then(|rope| rope.get("rope_theta"));
        if let Some(theta) = theta.filter(|theta| !theta.is_null()) {
            own.insert("rope_theta".to_owned(), theta.clone());
        }
        // A text starts with one token, the first if several are listed.
        if let Some(first) = own.get("bos_token_id").and_then(|ids| ids.get(0)).cloned() {
            own.insert("bos_token_id".to_owned(), first);
        }
        own.entry("num_key_value_heads")
            .or_insert_with(|| all.get("num_attention_heads").cloned().unwrap_or(Value::Null));
        // Hugging Face's own defaults for keys that a file leaves out.
        own.entry("tie_word_embeddings").or_insert(json!(false));
        own.entry("rms_norm_eps").or_insert(json!(1e-6));
        own.entry("max_position_embeddings").or_insert(json!(2048));
        let config: Self = serde_json::from_value(Value::Object(own)).map_err(|e| e.to_string())?;
        config.resolved(0, 0).map_err(|e| e.to_string())
    }

    pub(super) fn written(&self) -> Map<String, Value> {
        let constant = json!({
            "attention_bias": false,
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "mlp_bias": false,
            "rope_scaling": null,
            "use_cache": true,
        });
        [Ok(constant), serde_json::to_value(self)].into_iter().flatten().filter_map(into_object).flatten().collect()
    }
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The keys that this build reads.
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

fn refuse_unsupported(all: &Map<String, Value>) -> Result<(), String> {
    let neutral = [("attention_bias", json!(false)), ("mlp_bias", json!(false)), ("hidden_act", json!("silu"))];
    for (key, wanted) in neutral {
        if let Some(other) = all.get(key).filter(|&v| !v.is_null() && *v != wanted) {
            return Err(format!("`{key}` is {other}, this build knows {wanted}"));
        }
    }
    let turns_a_part = |of: Option<&Value>| of.is_some_and(|part| !part.is_null() && part.as_f64() != Some(1.0));
    if turns_a_part(all.get("partial_rotary_factor")) {
        return Err("`partial_rotary_factor` is not 1; this build's rotary embedding turns the whole of a head".into());
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
            if turns_a_part(rope.get("partial_rotary_factor")) {
                return Err(format!("`{key}` turns a part of a head, this build's rotary embedding the whole of it"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(changes: Value) -> Result<LlamaConfig, String> {
        let mut all = json!({
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 16, "some_new_key": 1,
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        LlamaConfig::read(all.as_object().unwrap())
    }

    #[test]
    fn hf_defaults_apply_where_a_file_is_silent() {
        let config =
            hf(json!({"eos_token_id": [7, 8], "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
        let config = config.unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim, config.tie_word_embeddings), (4, 8, false));
        assert_eq!((config.rms_norm_eps, config.rope_theta, config.eos_token_id), (1e-6, 5e5, vec![7, 8]));
    }

    #[test]
    fn what_would_change_the_forward_is_refused() {
        for (change, message) in [
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"mlp_bias": "yes"}), "mlp_bias"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"hidden_act": 3}), "hidden_act"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "llama3"),
            (json!({"num_key_value_heads": 3}), "multiple"),
            (json!({"head_dim": 7}), "must be even"),
            (json!({"hidden_size": null}), "hidden_size"),
            (json!({"num_hidden_layers": 1_000_000}), "num_hidden_layers"),
            (json!({"eos_token_id": "</s>"}), "a list of token ids"),
        ] {
            let error = hf(change).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn neutral_settings_are_no_settings() {
        let silent = hf(json!({})).unwrap();
        for same in [json!({"attention_bias": false, "partial_rotary_factor": 1.0}), json!({"hidden_act": null})] {
            assert_eq!(hf(same).unwrap(), silent);
        }
    }

    #[test]
    fn written_config_reads_back() {
        let config = hf(json!({"tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": [1, 2]})).unwrap();
        assert_eq!(LlamaConfig::read(&config.written()).unwrap(), config);
    }
}
