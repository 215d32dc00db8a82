//! Checks `[student]` with the config of its model family.

use logitcask_model::ModelConfig;
use logitcask_model::families::OfFamily;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Reads only the `[student]` of a recipe; `table` is the same recipe, which tells the model family.
///
/// # Errors
/// If the section is invalid. The error names the line, which that of reading a whole recipe does not.
pub fn check<'de, D: Deserializer<'de>>(recipe: D, table: &toml::Table) -> Result<(), D::Error> {
    let model_type = table.get(SECTION).and_then(|student| student.get("model_type"));
    let model_type = model_type.map_or(Some(ModelConfig::MODEL_TYPES[0]), toml::Value::as_str);
    // A model_type that is not a string is refused when the whole recipe is read.
    model_type.map_or(Ok(()), |model_type| recipe.deserialize_map(Section(model_type)))
}

const SECTION: &str = "student";

/// Reads the section as the config of the family with this `model_type`.
struct Section<'a>(&'a str);

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a recipe")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut recipe: A) -> Result<(), A::Error> {
        while let Some(key) = recipe.next_key::<String>()? {
            match key == SECTION {
                true => drop(recipe.next_value_seed(OfFamily(self.0))?),
                false => drop(recipe.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
