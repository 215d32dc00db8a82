//! OLMo 2.

use super::gemma2::NORM_NAMES;
use super::layout::Names;
use super::{Blocks, Defaults, Family, ModelConfig};
use crate::decoder::QkNorm;
#[cfg(test)]
use serde_json::Value;

/// Olmo2's family.
pub(super) struct Olmo2;

impl Family for Olmo2 {
    fn architecture(&self) -> &'static str {
        "Olmo2ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { norm_eps: 1e-5, ..Defaults::new(2048) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["attention_bias"]
    }

    fn blocks(&self, config: &ModelConfig) -> Blocks {
        Blocks {
            norms: [false, true, false, true],
            qk_norm: Some(QkNorm::Whole),
            qkv_bias: config.attention_bias,
            output_bias: config.attention_bias,
            ..Blocks::default()
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: NORM_NAMES, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        vec![json!({}), json!({"attention_bias": true, "tie_word_embeddings": false})]
    }
}
