//! Granite 3 with mixtures of experts.

use super::blocks::Experts;
use super::granite;
use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, settings};
use crate::decoder::RouterWeights;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const PARTS: &[(&str, &str, Rows)] = &[
    ("mlp.router", "block_sparse_moe.router.layer", Rows::Whole),
    ("mlp.experts.{}.gate_proj", "block_sparse_moe.input_linear", Rows::Experts),
    ("mlp.experts.{}.up_proj", "block_sparse_moe.input_linear", Rows::Experts),
    ("mlp.experts.{}.down_proj", "block_sparse_moe.output_linear", Rows::Experts),
];

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
    /// The factor of scores, instead of 1 / sqrt(head_dim).
    attention_multiplier: f64,
    /// The factor of the embedding.
    embedding_multiplier: f64,
    /// The factor of what a layer adds to the residual stream.
    residual_multiplier: f64,
    /// Logits are divided by it.
    logits_scaling: f64,
    /// Number of experts.
    num_local_experts: usize,
    /// Number of experts that each token uses.
    num_experts_per_tok: usize,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            attention_multiplier: 1.0,
            embedding_multiplier: 1.0,
            residual_multiplier: 1.0,
            logits_scaling: 1.0,
            num_local_experts: 8,
            num_experts_per_tok: 2,
        }
    }
}

/// Granite's family with experts.
pub(super) struct GraniteMoe;

impl Family for GraniteMoe {
    fn architecture(&self) -> &'static str {
        "GraniteMoeForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        granite::Granite.defaults()
    }

    fn default_settings(&self) -> Map<String, Value> {
        settings::defaults::<Own>()
    }

    fn normalised_settings(&self, given: Map<String, Value>) -> Result<Map<String, Value>, String> {
        settings::normalised::<Own>(given)
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let own: Own = config.settings();
        granite::check(config)?;
        Experts::check(("num_local_experts", own.num_local_experts), own.num_experts_per_tok)
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Own = config.settings();
        let experts = Experts {
            count: own.num_local_experts,
            per_token: own.num_experts_per_tok,
            size: config.intermediate_size,
            weights: RouterWeights::SoftmaxOfChosen,
            router_bias: false,
            dense_layers: Vec::new(),
        };
        Blocks { experts: Some(experts), ..granite::Granite.blocks(config) }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"num_local_experts": 4}),
            json!({"num_local_experts": 3, "num_experts_per_tok": 3, "logits_scaling": 0.7, "attention_bias": true}),
        ]
    }
}
