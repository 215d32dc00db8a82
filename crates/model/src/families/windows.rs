//! Sliding windows in config.json.

use super::hf::{self, said};
use super::{LayerType, ModelConfig};
use serde_json::{Map, Value, json};

/// The names of the length of a pattern of layers.
pub(super) const PATTERN_KEYS: [&str; 2] = ["sliding_window_pattern", "_sliding_window_pattern"];

/// Reads which layers see which window, as Qwen's files say it. There is one only if `use_sliding_window` says so, which
/// nearly every file sets to false beside the size of a window. `layer_types` decides where it is present; older files
/// have `max_window_layers`, the number of layers at the beginning that see everything.
pub(super) fn read_if_used(all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
    let window = all.get("sliding_window").cloned().unwrap_or(json!(4096));
    if hf::flag(all, "use_sliding_window", false)? && !window.is_null() {
        keys.insert("sliding_window".to_owned(), window);
    }
    let types = match said(all, "layer_types") {
        Some(types) => types.clone(),
        None if !keys.contains_key("sliding_window") => return Ok(()),
        None => {
            let full = said(all, "max_window_layers").map_or(Some(28), Value::as_u64);
            let full = full.ok_or("`max_window_layers` must be a number of layers")?;
            types(all, |i| i >= full as usize)
        }
    };
    keys.insert("layer_types".to_owned(), types);
    Ok(())
}

/// The same for both ways of reading it.
pub(super) fn written_if_used(config: &ModelConfig) -> Value {
    let types = config.layer_types();
    json!({
        "use_sliding_window": config.sliding_window.is_some(),
        "max_window_layers": types.iter().take_while(|kind| **kind == LayerType::Full).count(),
    })
}

/// Reads a window that some layers have: those that `layer_types` names, or without that the layers for which `is_in`
/// holds. A file that leaves out the size means 4096, and null means that there is none.
pub(super) fn read_by_layer(all: &Map<String, Value>, keys: &mut Map<String, Value>, is_in: impl Fn(usize) -> bool) {
    let window = all.get("sliding_window").cloned().unwrap_or(json!(4096));
    if window.is_null() {
        return;
    }
    keys.insert("sliding_window".to_owned(), window);
    let types = said(all, "layer_types").cloned().unwrap_or_else(|| types(all, is_in));
    keys.insert("layer_types".to_owned(), types);
}

/// The length of a repeating pattern of layers, of which the last sees everything.
///
/// # Errors
/// It is not a positive number.
pub(super) fn pattern(all: &Map<String, Value>, keys: [&str; 2], default: u64) -> Result<usize, String> {
    let Some((key, value)) = keys.into_iter().find_map(|key| Some((key, said(all, key)?))) else {
        return Ok(default as usize);
    };
    let length = value.as_u64().filter(|length| *length > 0);
    length.map(|length| length as usize).ok_or_else(|| {
        format!("`{key}` is {value}, this build reads the length of a pattern of layers; add `layer_types` instead")
    })
}

/// The same where every layer of a repeating pattern has the window but its last, and without `layer_types` the file or
/// `default` says how long the pattern is.
///
/// # Errors
/// The length of the pattern is not a positive number.
pub(super) fn read_by_pattern(
    all: &Map<String, Value>,
    keys: &mut Map<String, Value>,
    default: u64,
) -> Result<(), String> {
    // Some files write the pattern in letters, beside the kind of every layer.
    let length = match said(all, "layer_types") {
        Some(_) => default as usize,
        None => pattern(all, PATTERN_KEYS, default)?,
    };
    read_by_layer(all, keys, |layer| !(layer + 1).is_multiple_of(length));
    Ok(())
}

/// Reads a window that all layers have, if the file has one.
pub(super) fn read_everywhere(all: &Map<String, Value>, keys: &mut Map<String, Value>) {
    keys.extend(said(all, "sliding_window").map(|window| ("sliding_window".to_owned(), window.clone())));
}

fn types(all: &Map<String, Value>, is_in: impl Fn(usize) -> bool) -> Value {
    let layers = all.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0) as usize;
    // More layers are refused later.
    (0..layers.min(1 << 16)).map(|i| json!(if is_in(i) { LayerType::Sliding } else { LayerType::Full })).collect()
}
