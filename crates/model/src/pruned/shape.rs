//! The config of a pruned model.

use super::Kept;
use crate::ModelConfig;
use logitcask_core::ConfigError;

/// The config of what is kept of a model: a layer sees what it saw, and a head has the width that it had.
pub(super) fn pruned(source: &ModelConfig, kept: &Kept) -> Result<ModelConfig, ConfigError> {
    if kept.channels != source.intermediate_size {
        source.check_channels_can_be_cut()?;
    }
    if kept.groups != source.num_key_value_heads {
        source.check_heads_can_be_cut()?;
    }
    let shared = source.num_attention_heads / source.num_key_value_heads;
    let types = &source.layer_types;
    let layer_types = kept.layers.iter().filter_map(|&layer| types.get(layer).copied()).collect();
    let mut config = ModelConfig {
        num_hidden_layers: kept.layers.len(),
        layer_types,
        num_attention_heads: kept.groups * shared,
        num_key_value_heads: kept.groups,
        intermediate_size: kept.channels,
        vocab_size: kept.rows,
        ..source.clone()
    };
    config.keep_layers(&kept.layers)?;
    config.resolved(0, 0)
}
