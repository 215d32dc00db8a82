//! Phi-1, Phi-1.5 and Phi-2.

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::Activation;
use crate::decoder::{Order, QkNorm};
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

const PARTS: &[(&str, &str, Rows)] = &[
    ("self_attn.o_proj", "self_attn.dense", Rows::Whole),
    ("self_attn.q_norm", "self_attn.q_layernorm", Rows::Whole),
    ("self_attn.k_norm", "self_attn.k_layernorm", Rows::Whole),
    ("mlp.up_proj", "mlp.fc1", Rows::Whole),
    ("mlp.down_proj", "mlp.fc2", Rows::Whole),
];

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether each head's queries and keys are normalised.
    qk_layernorm: bool,
}

/// Phi's family.
pub(super) struct Phi;

impl Family for Phi {
    fn architecture(&self) -> &'static str {
        "PhiForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, partial_rotary_factor: 0.5, hidden_act: Activation::GeluTanh, ..Defaults::new(2048) }
    }

    fn settings(&self) -> SettingsType {
        SettingsType::of::<Settings>()
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["partial_rotary_factor"]
    }

    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("rms_norm_eps", "layer_norm_eps")]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            order: Order::Parallel,
            norms: [true, false, false, false],
            gate: false,
            qk_norm: config.settings::<Settings>().qk_layernorm.then_some(QkNorm::Head),
            qk_norm_bias: true,
            head_bias: true,
            ..Blocks::with_layer_norms().with_biases(true)
        }
    }

    /// The head has a bias, which the embedding lacks.
    fn resolve(&self, config: &mut ModelConfig) -> Result<(), ConfigError> {
        let expected = "false: the head of these models has a bias of its own";
        ConfigError::unless(!config.tie_word_embeddings, "tie_word_embeddings", true, expected)
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { outside: &[("model.norm", "model.final_layernorm")], parts: PARTS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"head_dim": 8, "tie_word_embeddings": false}),
            json!({"head_dim": 8, "tie_word_embeddings": false, "qk_layernorm": true, "partial_rotary_factor": 0.25}),
        ]
    }
}
