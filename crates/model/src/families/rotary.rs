//! The rotary embedding in config.json: `rope_parameters` of transformers 5, or `rope_scaling` and `rope_theta` of 4.

use super::blocks::Rope;
use super::hf::{copy, said};
use super::{Defaults, Family, ModelConfig};
use crate::rope::{RopeScaling, RopeType};
use serde_json::{Map, Value, json};

/// Keys of a rotary table that say nothing about its scaling.
const TABLE_KEYS: [&str; 8] = [
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "finetuned",
    "max_position_embeddings",
    "original_max_position_embeddings",
];

/// The setting of families whose layers with a window have another base.
pub(super) const LOCAL_BASE: &str = "rope_local_base_freq";

/// Replaces a table for each kind of layer by one for those that see everything, and the base of the others.
pub(super) fn flatten(all: &mut Map<String, Value>, family: &dyn Family) -> Result<(), String> {
    let nested = all.get("rope_parameters").filter(|table| table.get("full_attention").is_some());
    let Some(nested) = nested.filter(|_| family.settings().defaults().contains_key(LOCAL_BASE)).cloned() else {
        return Ok(());
    };
    if let Some(local) = nested.get("sliding_attention").filter(|local| !local.is_null()) {
        let kind = local.get("rope_type").filter(|kind| **kind != "default");
        if let Some(kind) = kind {
            return Err(format!(
                "`rope_parameters` asks for type {kind} in layers with a window, where this build knows \"default\""
            ));
        }
        all.extend(local.get("rope_theta").map(|theta| (LOCAL_BASE.to_owned(), theta.clone())));
    }
    all.insert("rope_parameters".to_owned(), nested["full_attention"].clone());
    Ok(())
}

/// Moves settings of the family that a file keeps in a rotary table beside the other keys.
///
/// # Errors
/// The file has one of them twice, with different values.
pub(super) fn lift_settings(all: &mut Map<String, Value>, family: &dyn Family) -> Result<(), String> {
    let own = family.settings().defaults();
    for place in ["rope_parameters", "rope_scaling"] {
        let Some(Value::Object(table)) = all.get_mut(place) else { continue };
        let names: Vec<String> = table.keys().filter(|key| own.contains_key(*key)).cloned().collect();
        let lifted: Vec<(String, Value)> = names.iter().filter_map(|name| table.remove_entry(name)).collect();
        for (name, value) in lifted {
            if let Some(other) = said(all, &name).filter(|other| **other != value) {
                return Err(format!("`{name}` is {other}, and {value} in `{place}`: remove the wrong one"));
            }
            all.insert(name, value);
        }
    }
    Ok(())
}

/// Reads base, part and scaling. A file may have both tables, but they must agree, since each version of `transformers`
/// would read its own.
pub(super) fn read(all: &Map<String, Value>, keys: &mut Map<String, Value>, defaults: &Defaults) -> Result<(), String> {
    let mut found: Option<(&str, Option<RopeScaling>)> = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(table) = said(all, key) else { continue };
        let table = table.as_object().ok_or_else(|| format!("`{key}` is {table}, it must be a table"))?;
        let scaling = read_scaling(key, table, all)?;
        // The part that turns belongs to this kind of scaling itself.
        let is_part = scaling.as_ref().is_some_and(|scaling| scaling.rope_type == RopeType::Proportional);
        match &found {
            Some((other, before)) if *before != scaling => {
                return Err(format!("`{other}` and `{key}` ask for different rotary embeddings: remove the wrong one"));
            }
            _ => found = Some((key, scaling)),
        }
        for name in ["rope_theta", "partial_rotary_factor"].into_iter().take(if is_part { 1 } else { 2 }) {
            if let Some(value) = said(table, name) {
                keys.entry(name).or_insert(value.clone());
            }
        }
    }
    for name in ["rope_theta", "partial_rotary_factor"] {
        if let Some(value) = said(all, name) {
            keys.entry(name).or_insert(value.clone());
        }
    }
    match defaults.rope_theta {
        Some(theta) => drop(keys.entry("rope_theta").or_insert(json!(theta))),
        None if keys.contains_key("rope_theta") => {}
        None => {
            return Err("`rope_theta` is missing, and versions of `transformers` disagree about what that means: add \
                        it as the model's authors give it"
                .to_owned());
        }
    }
    keys.extend(found.and_then(|(_, scaling)| scaling).map(|scaling| ("rope_scaling".to_owned(), json!(scaling))));
    Ok(())
}

/// The keys for both versions of `transformers`; none for models without rotary embedding.
pub(super) fn written(config: &ModelConfig) -> Value {
    let plain = json!({"rope_type": "default"});
    let mut table = config.rope_scaling.as_ref().map_or(plain.clone(), |scaling| json!(scaling));
    table["rope_theta"] = json!(config.rope_theta);
    if table.get("partial_rotary_factor").is_none() {
        table["partial_rotary_factor"] = json!(config.rotary_part());
    }
    let blocks = config.model_type.family().blocks(config);
    if let Rope::LocalBase(theta) = blocks.rope {
        let mut local = plain;
        local["rope_theta"] = json!(theta);
        table = json!({"full_attention": table, "sliding_attention": local});
    }
    json!({"rope_parameters": table, "rope_scaling": config.rope_scaling})
}

/// Reads one rotary table; `None` if it does not scale.
fn read_scaling(
    key: &str,
    table: &Map<String, Value>,
    all: &Map<String, Value>,
) -> Result<Option<RopeScaling>, String> {
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
        // Phi-3's files can call it by another name.
        Some("longrope" | "su") => RopeType::Longrope,
        Some("yarn") if table.contains_key("short_factor") => RopeType::Longrope,
        Some("yarn") => RopeType::Yarn,
        Some("dynamic") => RopeType::Dynamic,
        Some("proportional") => RopeType::Proportional,
        other => {
            let other = other.unwrap_or("unnamed");
            return Err(format!(
                "`{key}` asks for rotary embedding of type `{other}`, this build knows `default`, `linear`, `llama3`, \
                 `yarn`, `dynamic`, `longrope` and `proportional`"
            ));
        }
    };
    let own = RopeScaling::keys_of(kind);
    let is_read = |name: &str| RopeType::ALL.into_iter().any(|kind| RopeScaling::keys_of(kind).contains(&name));
    let mut names = table.keys().filter(|name| said(table, name).is_some());
    if let Some(unknown) = names.find(|name| !TABLE_KEYS.contains(&name.as_str()) && !is_read(name)) {
        return Err(format!("`{key}` has `{unknown}`, which this build does not know for a scaled rotary embedding"));
    }
    let mut scaling = Map::from_iter([("rope_type".to_owned(), json!(kind))]);
    if kind == RopeType::Proportional {
        scaling.insert("factor".to_owned(), json!(1.0));
    }
    copy(table, &mut scaling, own);
    copy(table, &mut scaling, &["factor"]);
    // Some writers put it outside, where it takes precedence.
    if own.contains(&"original_max_position_embeddings") {
        copy(all, &mut scaling, &["original_max_position_embeddings"]);
    }
    if [RopeType::Yarn, RopeType::Longrope].contains(&kind) && !scaling.contains_key("factor") {
        let length = |table: &Map<String, Value>, key| said(table, key).and_then(Value::as_f64);
        let longer = length(all, "max_position_embeddings");
        let original = length(&scaling, "original_max_position_embeddings");
        let factor = longer.zip(original).map(|(longer, original)| json!(longer / original));
        scaling.extend(factor.map(|factor| ("factor".to_owned(), factor)));
    }
    serde_json::from_value(Value::Object(scaling)).map(Some).map_err(|e| format!("`{key}`: {e}"))
}
