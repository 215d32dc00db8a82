//! Settings that one family has: keys of config.json and recipes with a type of the family's own.

use super::ModelConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The type of a family's settings. Its fields are the keys, and its default is what a file means that leaves them out.
pub(super) struct SettingsType {
    defaults: fn() -> Keys,
    normalised: fn(Keys) -> Result<Keys, String>,
}

type Keys = Map<String, Value>;

impl SettingsType {
    /// The settings are an `S`.
    pub(super) const fn of<S: Serialize + DeserializeOwned + Default>() -> Self {
        Self { defaults: defaults::<S>, normalised: normalised::<S> }
    }

    /// The keys with their defaults.
    pub(super) fn defaults(&self) -> Keys {
        (self.defaults)()
    }

    /// The given settings without those that are at their default, so that equal models have equal settings. A null
    /// where a setting must have a value counts as left out.
    ///
    /// # Errors
    /// The key that is unknown or has a value of another type.
    pub(super) fn normalised(&self, given: Keys) -> Result<Keys, String> {
        (self.normalised)(given)
    }
}

/// The settings of a family that has none.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoSettings {}

fn defaults<S: Serialize + Default>() -> Keys {
    match json!(S::default()) {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

fn normalised<S: Serialize + DeserializeOwned + Default>(mut given: Keys) -> Result<Keys, String> {
    let parsed = |keys: &Keys| serde_json::from_value::<S>(Value::Object(keys.clone()));
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
    pub(super) fn settings<S: DeserializeOwned + Default>(&self) -> S {
        serde_json::from_value(Value::Object(self.settings.clone())).unwrap_or_default()
    }
}
