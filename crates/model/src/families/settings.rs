//! Settings that one family has: keys of config.json and recipes with a type of the family's own.

use super::ModelConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The settings of a family. Its fields are the keys, and its default is what a file means that leaves them out.
pub(super) trait Settings: Serialize + DeserializeOwned + Default {}

impl<S: Serialize + DeserializeOwned + Default> Settings for S {}

/// The keys with their defaults.
pub(super) fn defaults<S: Settings>() -> Map<String, Value> {
    match json!(S::default()) {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

/// The given settings without those that are at their default, so that equal models have equal settings. A null where
/// a setting must have a value counts as left out.
///
/// # Errors
/// The key that is unknown or has a value of another type.
pub(super) fn normalised<S: Settings>(mut given: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let parsed = |keys: &Map<String, Value>| serde_json::from_value::<S>(Value::Object(keys.clone()));
    given.retain(|key, value| !value.is_null() || parsed(&Map::from_iter([(key.clone(), Value::Null)])).is_ok());
    for (key, value) in &given {
        parsed(&Map::from_iter([(key.clone(), value.clone())])).map_err(|e| format!("`{key}` is {value}: {e}"))?;
    }
    let (all, defaults) = (json!(parsed(&given).map_err(|e| e.to_string())?), defaults::<S>());
    Ok(defaults
        .into_iter()
        .filter_map(|(key, default)| (all[&key] != default).then(|| (key.clone(), all[&key].clone())))
        .collect())
}

impl ModelConfig {
    /// The family's settings, which [`Self::resolved`] has checked.
    pub(super) fn settings<S: Settings>(&self) -> S {
        serde_json::from_value(Value::Object(self.settings.clone())).unwrap_or_default()
    }
}
