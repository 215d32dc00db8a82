//! The families of models that this build knows: a file and a line in the table of [`ModelType`] each.
//!
//! A family says how its config.json is read into the [`ModelConfig`] that all share, which blocks of the decoder its
//! models have, and how its files name and arrange the parameters. Nothing else knows one family from another.

mod blocks;
mod config;
mod config_checks;
mod config_serde;
mod hf;
mod known_keys;
mod layout;
mod model_type;
mod one_or_several;
mod rotary;
mod rotary_pairs;
mod settings;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod towers;
mod windows;

mod cohere;
mod cohere2;
mod exaone4;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
mod granitemoe;
mod lfm2;
mod llama;
mod ministral3;
mod mistral;
mod mixtral;
mod olmo;
mod olmo2;
mod olmo3;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod smollm3;
mod stablelm;
mod starcoder2;

pub use config::{LayerType, ModelConfig};
pub(crate) use hf::{language_model, object};
pub(crate) use layout::{FileTensor, Layout};
pub use model_type::ModelType;
pub(crate) use shape::Initial;

use crate::Activation;
use blocks::Blocks;
use layout::Names;
use logitcask_core::ConfigError;
use serde_json::{Map, Value, json};
use settings::{NoSettings, SettingsType};

/// The interface of a family. What is left out is Llama's.
trait Family: Sync {
    /// The class of `transformers` that opens an export.
    fn architecture(&self) -> &'static str;

    /// What a config.json means that leaves a key out.
    fn defaults(&self) -> Defaults;

    /// Pairs of a key of [`ModelConfig`] and the name that it has in this family's config.json.
    fn renamed_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The keys of [`ModelConfig`] that its models have and those of other families may lack.
    fn optional_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// The settings that only this family has.
    fn settings(&self) -> SettingsType {
        SettingsType::of::<NoSettings>()
    }

    /// Further keys of config.json that [`Self::read`] reads.
    fn keys_read(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads what is particular to its config.json into keys of [`ModelConfig`], which already hold the common ones.
    ///
    /// # Errors
    /// A setting that would change the forward pass and is not supported.
    fn read(&self, _all: &Map<String, Value>, _keys: &mut Map<String, Value>) -> Result<(), String> {
        Ok(())
    }

    /// The keys that `transformers` reads besides the common ones and the settings.
    fn written(&self, _config: &ModelConfig) -> Value {
        json!({})
    }

    /// The keys of [`ModelConfig`] that `transformers` refuses in its config.json.
    fn keys_not_written(&self) -> &'static [&'static str] {
        &[]
    }

    /// Fills in what a recipe may leave out, and gives settings the one form that equal models share.
    ///
    /// # Errors
    /// The key that is invalid, and what it may be.
    fn resolve(&self, _config: &mut ModelConfig) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Keeps those settings of single layers that belong to these layers of a model.
    ///
    /// # Errors
    /// The key of a setting that depends on a layer's place.
    fn keep_layers(&self, _config: &mut ModelConfig, _layers: &[usize]) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The blocks of its models.
    fn blocks(&self, config: &ModelConfig) -> Blocks;

    /// The names and the arrangement of tensors in its files.
    fn names(&self, _config: &ModelConfig) -> Names {
        Names::default()
    }

    /// Whether rotary pairs in its files are neighbours.
    fn pairs_are_neighbours(&self) -> bool {
        false
    }

    /// The name in [`Self::names`] of a tensor that some files spell in another way; `None` for one that belongs to
    /// something else than the decoder.
    fn standard_name(&self, name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    /// The methods of quantization in which its files can be read.
    fn quantizations(&self) -> &'static [&'static str] {
        &[]
    }

    /// Small configs with the keys of a recipe: each way in which the family's models differ at least once.
    #[cfg(test)]
    fn examples(&self) -> Vec<Value>;
}

/// The meanings of keys that a family's config.json leaves out, where families differ.
struct Defaults {
    /// `None`: as many as query heads.
    num_key_value_heads: Option<usize>,
    /// `None`: hidden_size / num_attention_heads.
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    norm_eps: f64,
    /// `None`: a file must say it, because versions of `transformers` disagree.
    rope_theta: Option<f64>,
    partial_rotary_factor: f64,
    hidden_act: Activation,
    attention_bias: bool,
    is_tied: bool,
}

impl Defaults {
    /// Llama's, with this context length.
    const fn new(max_position_embeddings: usize) -> Self {
        Self {
            num_key_value_heads: None,
            head_dim: None,
            max_position_embeddings,
            norm_eps: 1e-6,
            rope_theta: Some(10_000.0),
            partial_rotary_factor: 1.0,
            hidden_act: Activation::Silu,
            attention_bias: false,
            is_tied: false,
        }
    }
}
