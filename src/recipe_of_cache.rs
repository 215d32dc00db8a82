//! Recipes without texts, which train from a cache that exists, whatever made it.

use crate::recipe::{CacheConfig, ExtraConfig};
use anyhow::{Result, anyhow};
use logitcask_cache::Plan;
use logitcask_core::ExtraColumn;
use std::path::Path;

/// Gives `[cache]` of a recipe without `[dataset]` the settings of the cache that it names, where it does not set them
/// itself. Those that it sets are compared with the cache's like any recipe's.
///
/// # Errors
/// If no cache is there.
pub fn complete(recipe: &mut toml::Table) -> Result<()> {
    if recipe.contains_key("dataset") {
        return Ok(());
    }
    let Some(cache) = recipe.get_mut("cache").and_then(toml::Value::as_table_mut) else { return Ok(()) };
    let Some(folder) = cache.get("path").and_then(toml::Value::as_str) else { return Ok(()) };
    let plan = Plan::read(Path::new(folder)).map_err(|error| {
        anyhow!(
            "[cache] path: there is no cache to train from ({error}). A recipe without [dataset] trains from a cache that \
             exists: `logitcask import` makes one of the files of another tool. With [dataset] and [teacher], `logitcask \
             cache` makes it"
        )
    })?;
    let mut settings = toml::Table::try_from(CacheConfig::of(&plan))?;
    settings.extend(std::mem::take(cache));
    *cache = settings;
    Ok(())
}

impl CacheConfig {
    /// The settings of a cache, without its folder.
    fn of(plan: &Plan) -> Self {
        let range = plan.keep.tail.map(|tail| [tail.lowest_temperature, tail.highest_temperature]);
        let extra =
            |extra: &ExtraColumn| (extra.name.clone(), ExtraConfig { from: extra.from, precision: extra.precision });
        let defaults = Self::default();
        Self {
            path: None,
            max_length: plan.max_length as usize,
            positions: Some(plan.positions),
            selection: plan.keep.selection,
            always_keep: plan.keep.always_keep.clone(),
            values: plan.keep.values,
            temperature_range: range.unwrap_or(defaults.temperature_range),
            layout: plan.layout,
            extras: plan.extras.iter().map(extra).collect(),
            samples_per_unit: plan.samples_per_unit,
        }
    }
}
