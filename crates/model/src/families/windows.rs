//! Sliding windows in Qwen's config.json.

use super::hf::{self, said};
use super::{LayerType, ModelConfig};
use serde_json::{Map, Value, json};

/// Reads which layers see which window. There is one only if `use_sliding_window` says so, which nearly every file sets
/// to false beside the size of a window. `layer_types` decides where it is present; older files have
/// `max_window_layers`, the number of layers at the beginning that see everything.
pub(super) fn read(all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
    let window = all.get("sliding_window").cloned().unwrap_or(json!(4096));
    if hf::flag(all, "use_sliding_window")? && !window.is_null() {
        keys.insert("sliding_window".to_owned(), window);
    }
    let types = match said(all, "layer_types") {
        Some(types) => types.clone(),
        None if !keys.contains_key("sliding_window") => return Ok(()),
        None => {
            let full = said(all, "max_window_layers").map_or(Some(28), Value::as_u64);
            let full = full.ok_or("`max_window_layers` must be a number of layers")?;
            let layers = all.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0);
            (0..layers).map(|i| json!(if i < full { LayerType::Full } else { LayerType::Sliding })).collect()
        }
    };
    keys.insert("layer_types".to_owned(), types);
    Ok(())
}

/// The same for both ways of reading it.
pub(super) fn written(config: &ModelConfig) -> Value {
    let types = config.layer_types();
    json!({
        "use_sliding_window": config.sliding_window.is_some(),
        "sliding_window": config.sliding_window,
        "max_window_layers": types.iter().take_while(|kind| **kind == LayerType::Full).count(),
        "layer_types": types,
    })
}
