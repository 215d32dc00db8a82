//! `[student]`, read by its family.

use logitcask_model::ModelConfig;
use logitcask_model::families::OfFamily;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Reads no more of a recipe than its `[student]`, whose family is in `table`, the same recipe. An error names the
/// place of what is wrong: a recipe as a whole is read without knowing the family, and says no more than in which
/// section.
///
/// # Errors
/// What is wrong in the section.
pub fn check<'de, D: Deserializer<'de>>(recipe: D, table: &toml::Table) -> Result<(), D::Error> {
    let model_type = table.get(SECTION).and_then(|student| student.get("model_type"));
    let model_type = model_type.map_or(Some(ModelConfig::MODEL_TYPES[0]), toml::Value::as_str);
    // What is no name is refused with the recipe.
    model_type.map_or(Ok(()), |model_type| recipe.deserialize_map(Section(model_type)))
}

const SECTION: &str = "student";

/// The section of a family.
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
