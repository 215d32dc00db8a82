//! The language model of Ministral 3.

use super::hf::said;
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, rotary, towers, windows};
use crate::rope::QueryGrowth;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const BETA: &str = "llama_4_scaling_beta";
const ORIGINAL: &str = "original_max_position_embeddings";

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How much queries grow with every original context length.
    llama_4_scaling_beta: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { llama_4_scaling_beta: 0.1 }
    }
}

/// Ministral3's family.
pub(super) struct Ministral3;

impl Family for Ministral3 {
    fn architecture(&self) -> &'static str {
        "Ministral3ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(8), head_dim: Some(128), norm_eps: 1e-5, ..Defaults::new(262_144) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window"]
    }

    /// A file without rotary keys means YaRN. In a file with them, the growth of queries is one.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_everywhere(all, keys);
        let tables = ["rope_parameters", "rope_scaling"];
        if !tables.iter().any(|table| all.contains_key(*table)) {
            let yarn = json!({"rope_type": "yarn", "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "mscale": 1.0, "mscale_all_dim": 1.0, ORIGINAL: 16_384});
            keys.insert("rope_scaling".to_owned(), yarn);
            keys.insert("rope_theta".to_owned(), json!(1e6));
            return Ok(());
        }
        if said(all, BETA).is_none() {
            return Err(format!("`rope_parameters` has no `{BETA}`, without which `transformers` refuses it"));
        }
        let original = tables.iter().find_map(|table| said(all.get(*table)?.as_object()?, ORIGINAL));
        let is_scaled = keys.contains_key("rope_scaling");
        match original.filter(|original| !is_scaled && keys.get("max_position_embeddings") != Some(*original)) {
            Some(original) => Err(format!(
                "`rope_parameters` has `{ORIGINAL}` {original}, but this build knows growing queries without scaled \
                 angles only from `max_position_embeddings` on"
            )),
            None => Ok(()),
        }
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let beta = config.settings::<Settings>().llama_4_scaling_beta;
        ConfigError::unless(beta >= 0.0 && beta.is_finite(), BETA, beta, "a finite number, at least 0")
    }

    fn written(&self, config: &ModelConfig) -> Value {
        let growth = growth(config);
        let mut all = rotary::written(config);
        all["rope_parameters"][BETA] = json!(growth.beta);
        all["rope_parameters"][ORIGINAL] = json!(growth.length);
        all
    }

    /// It would take precedence over `rope_parameters`, which alone tells everything.
    fn keys_not_written(&self) -> &'static [&'static str] {
        &["rope_scaling"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks { query_growth: Some(growth(config)), ..Blocks::default() }
    }

    fn standard_name(&self, name: &str) -> Option<String> {
        towers::name_in_text_model(name)
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        let yarn = json!({"rope_type": "yarn", "factor": 4.0, ORIGINAL: 3});
        vec![json!({"sliding_window": 3}), json!({"rope_scaling": yarn, BETA: 0.5, "tie_word_embeddings": false})]
    }
}

/// Queries grow with every length that the model was trained for before its angles were scaled.
fn growth(config: &ModelConfig) -> QueryGrowth {
    let original = config.rope_scaling.as_ref().and_then(|scaling| scaling.original_max_position_embeddings);
    let length = original.unwrap_or(config.max_position_embeddings).max(1);
    QueryGrowth { beta: config.settings::<Settings>().llama_4_scaling_beta, length }
}
