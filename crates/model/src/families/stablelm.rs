//! StableLM.

use super::layout::{Names, Rows};
use super::{Blocks, Defaults, Family, ModelConfig, SettingsType};
use crate::decoder::{Order, QkNorm};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

const QK_NORMS: &[(&str, &str, Rows)] = &[
    ("self_attn.q_norm", "self_attn.q_layernorm.norms", Rows::TensorPerHead),
    ("self_attn.k_norm", "self_attn.k_layernorm.norms", Rows::TensorPerHead),
];

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether queries, keys and values have biases.
    use_qkv_bias: bool,
    /// Whether each head's queries and keys are normalised.
    qk_layernorm: bool,
    /// Whether attention and feed-forward network have the same input.
    use_parallel_residual: bool,
}

/// StableLm's family.
pub(super) struct StableLm;

impl Family for StableLm {
    fn architecture(&self) -> &'static str {
        "StableLmForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(32), norm_eps: 1e-5, partial_rotary_factor: 0.25, ..Defaults::new(4096) }
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
        let own: Settings = config.settings();
        let (order, norms) = match own.use_parallel_residual {
            true => (Order::Parallel, [true, false, false, false]),
            false => (Order::Sequential, [true, false, true, false]),
        };
        Blocks {
            order,
            norms,
            qkv_bias: own.use_qkv_bias,
            qk_norm: own.qk_layernorm.then_some(QkNorm::OwnHead),
            ..Blocks::with_layer_norms()
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: QK_NORMS, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![
            json!({"head_dim": 8, "use_qkv_bias": true, "tie_word_embeddings": false}),
            json!({"head_dim": 8, "use_parallel_residual": true, "qk_layernorm": true, "partial_rotary_factor": 0.5}),
        ]
    }
}
