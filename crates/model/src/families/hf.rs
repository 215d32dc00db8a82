//! Hugging Face's config.json, as transformers 4 and 5 write it.

use super::blocks::Rope;
use super::{ModelConfig, ModelType, known_keys, rotary};
use crate::{Activation, Error, Result, files};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The keys that all families have.
pub(super) const COMMON_KEYS: [&str; 12] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "hidden_act",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "eos_token_id",
];

impl ModelConfig {
    /// Reads Hugging Face's config.json.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Config`] if it is missing or not an object, its family is unknown, or it has a setting
    /// that would change the forward pass and is not implemented.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of_hf(&object(path)?).map_err(|problem| Error::Config { path: path.to_owned(), problem })
    }

    /// The same from the keys of such a file.
    pub(crate) fn of_hf(all: &Map<String, Value>) -> std::result::Result<Self, String> {
        let all = &language_model(all);
        let name = all.get("model_type").and_then(Value::as_str).unwrap_or("missing");
        let Some(&model_type) = ModelType::ALL.iter().find(|model_type| model_type.name() == name) else {
            let known: Vec<String> = ModelType::ALL.iter().map(|known| format!("`{}`", known.name())).collect();
            return Err(format!("model_type is `{name}`, this build opens {}", known.join(", ")));
        };
        let family = model_type.family();
        known_keys::check(all, model_type)?;
        let mut all = all.clone();
        for (ours, theirs) in family.renamed_keys() {
            if let Some(value) = all.remove(*theirs) {
                all.entry(*ours).or_insert(value);
            }
        }
        rotary::flatten(&mut all, family)?;
        rotary::lift_settings(&mut all, family)?;
        let mut keys = Map::new();
        copy(&all, &mut keys, &COMMON_KEYS);
        keys.insert("model_type".to_owned(), json!(model_type));
        // A text starts with one token, the first if several are listed.
        let bos = said(&all, "bos_token_id").map(|id| id.get(0).unwrap_or(id).clone());
        keys.extend(bos.map(|id| ("bos_token_id".to_owned(), id)));
        let defaults = family.defaults();
        let heads = match (all.get("num_key_value_heads"), defaults.num_key_value_heads) {
            (None, Some(count)) => json!(count),
            _ => all.get("num_attention_heads").cloned().unwrap_or(Value::Null),
        };
        keys.entry("num_key_value_heads").or_insert(heads);
        keys.entry("head_dim").or_insert(json!(defaults.head_dim.unwrap_or(0)));
        keys.entry("max_position_embeddings").or_insert(json!(defaults.max_position_embeddings));
        keys.entry("tie_word_embeddings").or_insert(json!(defaults.is_tied));
        keys.entry("rms_norm_eps").or_insert(json!(defaults.norm_eps));
        rotary::read(&all, &mut keys, &defaults)?;
        for (key, default) in [("attention_bias", defaults.attention_bias), ("mlp_bias", false)] {
            if family.optional_keys().contains(&key) {
                keys.insert(key.to_owned(), json!(flag(&all, key, default)?));
            }
        }
        if let Some(act) = keys.get_mut("hidden_act") {
            *act = activation(act)?;
        }
        let own = family.settings().defaults();
        keys.extend(
            all.iter().filter(|(key, _)| own.contains_key(*key)).map(|(key, value)| (key.clone(), value.clone())),
        );
        family.read(&all, &mut keys)?;
        let config: Self = serde_json::from_value(Value::Object(keys)).map_err(|e| e.to_string())?;
        config.resolved(0, 0).map_err(|e| e.to_string())
    }

    /// The config.json that `transformers` opens. Version 4 reads `rope_theta`, `rope_scaling` and `torch_dtype`,
    /// version 5 `rope_parameters` and `dtype`.
    pub(crate) fn to_hf(&self, dtype: &str) -> Map<String, Value> {
        let family = self.model_type.family();
        let general = json!({
            "architectures": [family.architecture()],
            "attention_dropout": 0.0,
            "dtype": dtype,
            "hidden_act": self.activation(),
            "initializer_range": 0.02,
            "model_type": self.model_type,
            "torch_dtype": dtype,
            "use_cache": true,
        });
        let mut all = family.settings().defaults();
        let own = [json!(self), general, rotary::written(self), self.optional_keys_written(), family.written(self)];
        all.extend(own.into_iter().filter_map(into_object).flatten());
        if family.blocks(self).rope == Rope::Nowhere {
            all.retain(|key, _| !key.starts_with("rope_"));
        }
        all.retain(|key, _| !family.keys_not_written().contains(&key.as_str()));
        for (ours, theirs) in family.renamed_keys() {
            if let Some(value) = all.remove(*ours) {
                all.insert((*theirs).to_owned(), value);
            }
        }
        all
    }

    /// The optional keys that the family has, whether they are at their default or not.
    fn optional_keys_written(&self) -> Value {
        let values = [
            ("attention_bias", json!(self.attention_bias)),
            ("mlp_bias", json!(self.mlp_bias)),
            ("sliding_window", json!(self.sliding_window)),
            ("layer_types", json!(self.layer_types())),
            ("partial_rotary_factor", json!(self.rotary_part())),
        ];
        let has = self.model_type.family().optional_keys();
        values.into_iter().filter(|(key, _)| has.contains(key)).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The standard name of an activation, of which some have several.
pub(super) fn activation(name: &Value) -> std::result::Result<Value, String> {
    let standard = match name.as_str() {
        Some("swish") => json!(Activation::Silu),
        Some("gelu_new" | "gelu_fast") => json!(Activation::GeluTanh),
        _ => name.clone(),
    };
    let known = serde_json::from_value::<Activation>(standard.clone());
    known.map(|_| standard).map_err(|e| format!("`hidden_act` is {name}: {e}"))
}

/// The config of the language model: where a model has several modalities, it lies one level down.
pub(crate) fn language_model(all: &Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(text)) = all.get("text_config") else { return all.clone() };
    let mut text = text.clone();
    for key in ["tie_word_embeddings", "quantization_config", "eos_token_id", "bos_token_id"] {
        if let Some(value) = all.get(key) {
            text.entry(key).or_insert(value.clone());
        }
    }
    text
}

/// The value of a key that is neither absent nor null.
pub(super) fn said<'a>(all: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    all.get(key).filter(|value| !value.is_null())
}

/// Copies these keys, unless they are null.
pub(super) fn copy(all: &Map<String, Value>, keys: &mut Map<String, Value>, names: &[&str]) {
    let there = names.iter().filter_map(|&name| Some((name.to_owned(), said(all, name)?.clone())));
    keys.extend(there);
}

/// The value of a switch, which is `default` where a file leaves it out.
pub(super) fn flag(all: &Map<String, Value>, key: &str, default: bool) -> std::result::Result<bool, String> {
    match said(all, key) {
        None => Ok(default),
        Some(Value::Bool(is_on)) => Ok(*is_on),
        Some(other) => Err(format!("`{key}` is {other}, it must be true or false")),
    }
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Reads a JSON file that must contain an object.
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Config { path: path.to_owned(), problem: format!("not a JSON object: {e}") })
}
