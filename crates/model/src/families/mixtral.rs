//! Mixtral.

use super::blocks::Experts;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType, windows};
use crate::decoder::RouterWeights;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const PARTS: &[(&str, &str, Rows)] = &[
    ("mlp.router", "block_sparse_moe.gate", Rows::Whole),
    ("mlp.experts.{}.gate_proj", "block_sparse_moe.experts.{}.w1", Rows::Whole),
    ("mlp.experts.{}.up_proj", "block_sparse_moe.experts.{}.w3", Rows::Whole),
    ("mlp.experts.{}.down_proj", "block_sparse_moe.experts.{}.w2", Rows::Whole),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Number of experts.
    num_local_experts: usize,
    /// Number of experts that each token uses.
    num_experts_per_tok: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { num_local_experts: 8, num_experts_per_tok: 2 }
    }
}

/// Mixtral's family.
pub(super) struct Mixtral;

impl Family for Mixtral {
    fn architecture(&self) -> &'static str {
        "MixtralForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(8), norm_eps: 1e-5, rope_theta: Some(1e6), ..Defaults::new(131_072) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window"]
    }

    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_everywhere(all, keys);
        Ok(())
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Settings = config.settings();
        Experts::check(("num_local_experts", own.num_local_experts), own.num_experts_per_tok)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        let experts = Experts {
            count: own.num_local_experts,
            per_token: own.num_experts_per_tok,
            size: config.intermediate_size,
            weights: RouterWeights::Softmax { is_normalised: true },
            router_bias: false,
            dense_layers: Vec::new(),
        };
        Blocks { experts: Some(experts), ..Blocks::default() }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"num_local_experts": 4}),
            json!({"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 3}),
        ]
    }
}
