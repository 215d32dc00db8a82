//! Reading and writing of a config as one table of keys: those that all families may have, and a family's own settings.
//!
//! Keys pass one by one, so that an error of a recipe points at the line of the key.

use super::{ModelConfig, ModelType};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::marker::PhantomData;

/// The keys that are no family's own.
pub(super) const KEYS: [&str; 21] = [
    "model_type",
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
    "rope_theta",
    "partial_rotary_factor",
    "rope_scaling",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "layer_types",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
];

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = ModelConfig;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the keys of a model's shape")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelConfig, A::Error> {
                let mut settings = Map::new();
                let common = Common { map, settings: &mut settings, family: None, is_family: false };
                let common = de::value::MapAccessDeserializer::new(common);
                let mut config = ModelConfig::deserialize_common(common)?;
                let family = config.model_type.family();
                let known = family.settings().defaults();
                if let Some(unknown) = settings.keys().find(|key| !known.contains_key(*key)) {
                    return Err(de::Error::custom(unknown_field(unknown, config.model_type)));
                }
                config.settings = family.settings().normalised(settings).map_err(de::Error::custom)?;
                Ok(config)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

impl Serialize for ModelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_all(serializer)
    }
}

/// Passes the keys that all families may have on, and collects the settings.
struct Common<'a, A> {
    map: A,
    settings: &'a mut Map<String, Value>,
    /// The family, once it was read.
    family: Option<ModelType>,
    /// Whether the next value is the family's name.
    is_family: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Common<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let key = KnownKey { family: self.family.unwrap_or_default(), error: PhantomData::<A::Error> };
            let Some(key) = self.map.next_key_seed(key)? else { return Ok(None) };
            if KEYS.contains(&key.as_str()) {
                self.is_family = key == "model_type";
                let key: StrDeserializer<'_, A::Error> = key.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.settings.insert(key, self.map.next_value()?);
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        if !std::mem::take(&mut self.is_family) {
            return self.map.next_value_seed(seed);
        }
        let family: ModelType = self.map.next_value()?;
        self.family = Some(family);
        let name: StrDeserializer<'_, A::Error> = family.name().into_deserializer();
        seed.deserialize(name)
    }
}

/// A key that some family has.
struct KnownKey<E> {
    /// The family whose keys an error lists.
    family: ModelType,
    error: PhantomData<E>,
}

impl<'de, E> DeserializeSeed<'de> for KnownKey<E> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let key = String::deserialize(deserializer)?;
        let is_setting = || ModelType::ALL.iter().any(|kind| kind.family().settings().defaults().contains_key(&key));
        match KEYS.contains(&key.as_str()) || is_setting() {
            true => Ok(key),
            false => Err(de::Error::custom(unknown_field(&key, self.family))),
        }
    }
}

fn unknown_field(key: &str, family: ModelType) -> String {
    let own = family.family().settings().defaults();
    let known = KEYS.into_iter().chain(own.keys().map(String::as_str)).map(|key| format!("`{key}`"));
    format!("unknown field `{key}`, expected one of {}", known.collect::<Vec<_>>().join(", "))
}
