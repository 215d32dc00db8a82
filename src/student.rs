//! The section `[student]` of a recipe: a shape with random weights, or an existing model.

use crate::plain_words;
use logitcask_model::{ModelConfig, PrunedConfig};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};

/// The key that tells one from the other.
const FROM: &str = "from";

/// What a student is before its training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StudentConfig {
    /// A model of this shape with random weights.
    Fresh(Box<ModelConfig>),
    /// A model that exists, or parts of it.
    Pretrained(PrunedConfig),
}

/// By the key `from`. A section is held as a whole until it is known which form it has, so that errors do not know their
/// lines: see [`check`].
impl<'de> Deserialize<'de> for StudentConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        let parsed = match is_pretrained(&table) {
            false => table.try_into().map(Self::Fresh),
            true => table.try_into().map(Self::Pretrained),
        };
        parsed.map_err(|e| D::Error::custom(plain_words::plain(e.message())))
    }
}

/// Whether a section names an existing model.
pub fn is_pretrained(section: &toml::Table) -> bool {
    section.contains_key(FROM)
}

/// Parses the section of a recipe by itself, from its text if it was written in one piece, so that an error names the
/// line or the path of a key.
pub fn check(recipe: &toml::Table, text: Option<&str>) -> Result<(), String> {
    match recipe.get("student").and_then(toml::Value::as_table).is_some_and(is_pretrained) {
        false => parse::<ModelConfig>(recipe, text).map_err(|e| plain_words::shown(&e)),
        true => parse::<PrunedConfig>(recipe, text).map_err(|e| {
            format!(
                "{}\na student that starts from a model has everything else from that model",
                plain_words::shown(&e)
            )
        }),
    }
}

fn parse<S: DeserializeOwned>(recipe: &toml::Table, text: Option<&str>) -> Result<(), toml::de::Error> {
    #[derive(Deserialize)]
    struct Alone<S> {
        #[serde(rename = "student")]
        _student: Option<S>,
    }
    let parsed: Result<Alone<S>, _> = text.map_or_else(|| recipe.clone().try_into(), toml::from_str);
    parsed.map(drop)
}
