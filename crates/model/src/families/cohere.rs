//! Cohere's Command R.

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::decoder::{NormKind, Order, QkNorm};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

const QK_NORMS: &[(&str, &str, Rows)] = &[
    ("self_attn.q_norm", "self_attn.q_norm", Rows::RowPerHead),
    ("self_attn.k_norm", "self_attn.k_norm", Rows::RowPerHead),
];

/// What this family shares with its successor: parallel layers, and layer norms without a bias.
pub(super) fn blocks(config: &ModelConfig, logit_scale: f64) -> Blocks {
    Blocks {
        order: Order::Parallel,
        norms: [true, false, false, false],
        norm: NormKind::Layer,
        qkv_bias: config.attention_bias,
        output_bias: config.attention_bias,
        logit_scale,
        ..Blocks::default()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The factor of logits.
    logit_scale: f64,
    /// Whether each head's queries and keys are normalised.
    use_qk_norm: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { logit_scale: 0.0625, use_qk_norm: false }
    }
}

/// Cohere's family.
pub(super) struct Cohere;

impl Family for Cohere {
    fn architecture(&self) -> &'static str {
        "CohereForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, rope_theta: None, is_tied: true, ..Defaults::new(8192) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("rms_norm_eps", "layer_norm_eps")]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let own: Settings = config.settings();
        Blocks { qk_norm: own.use_qk_norm.then_some(QkNorm::OwnHead), ..blocks(config, own.logit_scale) }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: QK_NORMS, ..Names::default() }
    }

    fn pairs_are_neighbours(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({}), json!({"use_qk_norm": true, "logit_scale": 2.0, "attention_bias": true})]
    }
}
