//! EXAONE 4.

use super::blocks::Rope;
use super::gemma2::NORM_NAMES;
use super::layout::Names;
use super::{Blocks, Defaults, Family, ModelConfig, windows};
use crate::decoder::QkNorm;
use serde_json::{Map, Value};

/// Exaone4's family.
pub(super) struct Exaone4;

impl Family for Exaone4 {
    fn architecture(&self) -> &'static str {
        "Exaone4ForCausalLM"
    }

    fn defaults(&self) -> Defaults {
        Defaults { num_key_value_heads: Some(32), norm_eps: 1e-5, ..Defaults::new(2048) }
    }

    fn optional_keys(&self) -> &'static [&'static str] {
        &["sliding_window", "layer_types"]
    }

    fn keys_read(&self) -> &'static [&'static str] {
        &["sliding_window_pattern"]
    }

    /// Every fourth layer sees everything, the others the window. Some files write the pattern in letters, and name the
    /// kind of every layer too.
    fn read(&self, all: &Map<String, Value>, keys: &mut Map<String, Value>) -> Result<(), String> {
        windows::read_by_pattern(all, keys, 4)
    }

    /// In models with a window, layers that see everything have no rotary embedding.
    fn blocks(&self, config: &ModelConfig) -> Blocks {
        let with_window = || Rope::In(config.full_layers().into_iter().map(|is_full| !is_full).collect());
        Blocks {
            norms: [false, true, false, true],
            qk_norm: Some(QkNorm::Head),
            rope: config.sliding_window.map_or(Rope::Everywhere, |_| with_window()),
            ..Blocks::default()
        }
    }

    fn names(&self, _: &ModelConfig) -> Names {
        Names { parts: NORM_NAMES, ..Names::default() }
    }

    #[cfg(test)]
    fn examples(&self) -> Vec<Value> {
        use serde_json::json;
        let types = ["sliding_attention", "full_attention"];
        vec![json!({}), json!({"sliding_window": 3, "layer_types": types, "tie_word_embeddings": false})]
    }
}
