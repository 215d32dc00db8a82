//! Hugging Face's config.json, as transformers 4 and 5 write it.

use super::{ModelConfig, ModelType};
use crate::rope::{RopeScaling, RopeType};
use crate::{Error, Result, files};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The keys that all families have.
const COMMON_KEYS: [&str; 11] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "eos_token_id",
];

/// Settings of other decoders that would change the forward pass of these, with the values that do not.
const NEUTRAL: [(&str, &[f64]); 12] = [
    ("alibi", &[0.0]),
    ("attention_multiplier", &[]),
    ("attn_logit_softcapping", &[]),
    ("clip_qkv", &[]),
    ("embedding_multiplier", &[1.0]),
    ("final_logit_softcapping", &[]),
    ("logit_scale", &[1.0]),
    ("logits_scaling", &[1.0]),
    ("partial_rotary_factor", &[1.0]),
    ("residual_multiplier", &[1.0]),
    ("use_bidirectional_attention", &[0.0]),
    ("use_qk_norm", &[0.0]),
];

/// Keys of a rotary table that say nothing about its scaling.
const ROTARY_KEYS: [&str; 6] = ["rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "finetuned"];

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
        let name = all.get("model_type").and_then(Value::as_str).unwrap_or("missing");
        let Some(model_type) = ModelType::ALL.into_iter().find(|model_type| model_type.name() == name) else {
            let known = ModelType::ALL.map(|model_type| format!("`{}`", model_type.name())).join(", ");
            return Err(format!("model_type is `{name}`, this build opens {known}"));
        };
        refuse_unsupported(all)?;
        let (family, mut keys) = (model_type.family(), Map::new());
        copy(all, &mut keys, &COMMON_KEYS);
        keys.insert("model_type".to_owned(), json!(model_type));
        // A text starts with one token, the first if several are listed.
        let bos = said(all, "bos_token_id").map(|id| id.get(0).unwrap_or(id).clone());
        keys.extend(bos.map(|id| ("bos_token_id".to_owned(), id)));
        let defaults = family.defaults();
        let heads = match (all.get("num_key_value_heads"), defaults.num_key_value_heads) {
            (None, Some(count)) => json!(count),
            _ => all.get("num_attention_heads").cloned().unwrap_or(Value::Null),
        };
        keys.entry("num_key_value_heads").or_insert(heads);
        keys.entry("head_dim").or_insert(json!(defaults.head_dim.unwrap_or(0)));
        keys.entry("max_position_embeddings").or_insert(json!(defaults.max_position_embeddings));
        keys.entry("tie_word_embeddings").or_insert(json!(false));
        keys.entry("rms_norm_eps").or_insert(json!(1e-6));
        read_rotary(all, &mut keys)?;
        family.read(all, &mut keys)?;
        let config: Self = serde_json::from_value(Value::Object(keys)).map_err(|e| e.to_string())?;
        config.resolved(0, 0).map_err(|e| e.to_string())
    }

    /// The config.json that `transformers` opens. Version 4 reads `rope_theta`, `rope_scaling` and `torch_dtype`,
    /// version 5 `rope_parameters` and `dtype`.
    pub(crate) fn to_hf(&self, dtype: &str) -> Map<String, Value> {
        let family = self.model_type.family();
        let mut rotary = json!({"rope_type": "default"});
        if let Some(scaling) = &self.rope_scaling {
            rotary = json!(scaling);
        }
        rotary["rope_theta"] = json!(self.rope_theta);
        let general = json!({
            "architectures": [family.architecture()],
            "attention_dropout": 0.0,
            "dtype": dtype,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "model_type": self.model_type,
            "rope_parameters": rotary,
            "rope_scaling": self.rope_scaling,
            "torch_dtype": dtype,
            "use_cache": true,
        });
        [json!(self), general, family.written(self)].into_iter().filter_map(into_object).flatten().collect()
    }
}

/// The value of a key that is neither absent nor null.
pub(super) fn said<'a>(all: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    all.get(key).filter(|value| !value.is_null())
}

/// Copies these keys, unless they are null.
fn copy(all: &Map<String, Value>, keys: &mut Map<String, Value>, names: &[&str]) {
    let there = names.iter().filter_map(|&name| Some((name.to_owned(), said(all, name)?.clone())));
    keys.extend(there);
}

/// The value of a switch that is false where a file leaves it out.
pub(super) fn flag(all: &Map<String, Value>, key: &str) -> std::result::Result<bool, String> {
    match said(all, key) {
        None => Ok(false),
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

/// Refuses settings that would change the forward pass but are not implemented, instead of ignoring them.
fn refuse_unsupported(all: &Map<String, Value>) -> std::result::Result<(), String> {
    if let Some(other) = said(all, "hidden_act").filter(|act| *act != "silu" && *act != "swish") {
        return Err(format!("`hidden_act` is {other}, this build knows \"silu\""));
    }
    for (key, neutral) in NEUTRAL {
        let Some(value) = said(all, key) else { continue };
        let number = value.as_f64().or_else(|| value.as_bool().map(|is_on| f64::from(u8::from(is_on))));
        if !number.is_some_and(|number| neutral.contains(&number)) {
            return Err(format!("`{key}` is {value}, which this build's models do not have"));
        }
    }
    if let Some(quantization) = said(all, "quantization_config") {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
        return Err(format!(
            "its weights are quantized (`quantization_config` names {method}); in safetensors this build reads f32, f16 \
             and bf16: take the model that it was made from, or a GGUF file"
        ));
    }
    if let Some(quantization) = said(all, "quantization") {
        return Err(format!(
            "its weights are quantized (`quantization` is {quantization}, as MLX writes it); in safetensors this build \
             reads f32, f16 and bf16: take the model that it was made from, or a GGUF file"
        ));
    }
    Ok(())
}

/// Reads the rotary embedding: `rope_parameters` of transformers 5, or `rope_scaling` and `rope_theta` of 4. A file may
/// have both, but they must agree, since each version would read its own.
fn read_rotary(all: &Map<String, Value>, keys: &mut Map<String, Value>) -> std::result::Result<(), String> {
    let mut found: Option<(&str, Option<RopeScaling>)> = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(table) = said(all, key) else { continue };
        let table = table.as_object().ok_or_else(|| format!("`{key}` is {table}, it must be a table"))?;
        let scaling = read_scaling(key, table, all)?;
        match &found {
            Some((other, before)) if *before != scaling => {
                return Err(format!("`{other}` and `{key}` ask for different rotary embeddings: remove the wrong one"));
            }
            _ => found = Some((key, scaling)),
        }
        if let Some(theta) = said(table, "rope_theta") {
            keys.entry("rope_theta").or_insert(theta.clone());
        }
    }
    if let Some(theta) = said(all, "rope_theta") {
        keys.entry("rope_theta").or_insert(theta.clone());
    }
    keys.extend(found.and_then(|(_, scaling)| scaling).map(|scaling| ("rope_scaling".to_owned(), json!(scaling))));
    Ok(())
}

/// Reads one rotary table; `None` if it does not scale.
fn read_scaling(
    key: &str,
    table: &Map<String, Value>,
    all: &Map<String, Value>,
) -> std::result::Result<Option<RopeScaling>, String> {
    if let Some(part) = said(table, "partial_rotary_factor").filter(|part| part.as_f64() != Some(1.0)) {
        let problem = "turns a part of a head, this build's rotary embedding the whole of it";
        return Err(format!("`{key}` {problem} (`partial_rotary_factor` is {part})"));
    }
    if let Some((own, _)) = table.iter().find(|(_, value)| value.is_object()) {
        return Err(format!(
            "`{key}` has a table `{own}` of its own; this build has one rotary embedding for all layers"
        ));
    }
    let name = said(table, "rope_type").or_else(|| said(table, "type"));
    let kind = match name.map(|name| name.as_str().unwrap_or("unnamed")) {
        Some("default") => return Ok(None),
        None if !table.contains_key("factor") => return Ok(None),
        Some("linear") => RopeType::Linear,
        Some("llama3") => RopeType::Llama3,
        Some("yarn") => RopeType::Yarn,
        other => {
            let other = other.unwrap_or("unnamed");
            return Err(format!(
                "`{key}` asks for rotary embedding of type `{other}`, this build knows `default`, `linear`, `llama3` \
                 and `yarn`, whose angles do not depend on the length of a text"
            ));
        }
    };
    let own = RopeScaling::keys_of(kind);
    let kinds = [RopeType::Linear, RopeType::Llama3, RopeType::Yarn];
    let is_read = |name: &str| kinds.into_iter().any(|kind| RopeScaling::keys_of(kind).contains(&name));
    let mut names = table.keys().filter(|name| said(table, name).is_some());
    if let Some(unknown) = names.find(|name| !ROTARY_KEYS.contains(&name.as_str()) && !is_read(name)) {
        return Err(format!("`{key}` has `{unknown}`, which this build does not know for a scaled rotary embedding"));
    }
    let mut scaling = Map::from_iter([("rope_type".to_owned(), json!(kind))]);
    copy(table, &mut scaling, own);
    copy(table, &mut scaling, &["factor"]);
    // Some writers put it outside, where it takes precedence.
    if own.contains(&"original_max_position_embeddings") {
        copy(all, &mut scaling, &["original_max_position_embeddings"]);
    }
    if kind == RopeType::Yarn && !scaling.contains_key("factor") {
        let length = |table: &Map<String, Value>, key| said(table, key).and_then(Value::as_f64);
        let longer = length(all, "max_position_embeddings");
        let original = length(&scaling, "original_max_position_embeddings");
        let factor = longer.zip(original).map(|(longer, original)| json!(longer / original));
        scaling.extend(factor.map(|factor| ("factor".to_owned(), factor)));
    }
    serde_json::from_value(Value::Object(scaling)).map(Some).map_err(|e| format!("`{key}`: {e}"))
}

/// Reads a JSON file that must contain an object.
pub(crate) fn object(path: &Path) -> Result<Map<String, Value>> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Config { path: path.to_owned(), problem: format!("not a JSON object: {e}") })
}
