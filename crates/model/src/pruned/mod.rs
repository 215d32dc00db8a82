//! A model that starts as another one, whole or with some of its layers, heads and channels.
//!
//! Pruning is structured and by magnitude, as in LLM-Pruner (2305.11627): whole units are kept or left out, all tensors
//! that belong to a unit alike, and the width of the residual stream stays. In each layer by itself, the units with the
//! largest scores are kept, in their order; of equal scores, the one with the lower index. Biases do not count:
//!
//! - a channel c of the feed-forward network has the score Σ gate\[c, :\]² + Σ up\[c, :\]² + Σ down\[:, c\]²;
//! - a group of attention, which is one key head, its value head and the query heads that share it, has the score
//!   Σ q² + Σ k² + Σ v² over its rows + Σ o² over its columns.
//!
//! Layers are not scored: a recipe lists those that it keeps. A row of embedding and head that the other model does not
//! have is the mean of its rows of tokens, so that its logit is the mean of the tokens' logits.

mod choice;
mod shape;
#[cfg(test)]
mod tests;

use crate::{CausalLm, Companions, Error, Model, ModelConfig, Precision, PretrainedModel, Result, StoredParameter};
use burn::tensor::{DType, Device};
use choice::Choice;
use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The keys of a recipe's `[student]` that starts from an existing model. Everything else is that model's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunedConfig {
    /// The model, in any form that [`PretrainedModel::open`] accepts.
    pub from: PathBuf,
    /// The layers that are kept, counted from 0, in ascending order; if left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Number of query heads that are kept: whole groups that share a key head. If left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Number of channels of the feed-forward network that are kept; if left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Number of rows of embedding and head; if left out: as many as the model has, or the nearest number that the data
    /// allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
}

/// The sizes that remain.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// Indices of the other model's layers.
    layers: Vec<usize>,
    /// Number of key heads.
    groups: usize,
    /// Number of channels of the feed-forward network.
    channels: usize,
    /// Number of rows of embedding and head.
    rows: usize,
}

/// A pruned model whose weights have not been read.
pub struct PrunedModel {
    files: PretrainedModel,
    kept: Kept,
    config: ModelConfig,
    /// Number of rows of embedding and head that are tokens.
    tokens: usize,
}

impl PrunedModel {
    /// Checks what is kept of the other model. `rows` are the numbers of classes that the data allows; the least of them
    /// is the number of tokens.
    ///
    /// # Errors
    /// [`Error::Refused`] names a key that does not fit the model.
    pub fn new(files: PretrainedModel, wanted: &PrunedConfig, rows: RangeInclusive<usize>) -> Result<Self> {
        let tokens = *rows.start();
        let kept = Kept::of(wanted, files.config(), rows)?;
        let config = shape::pruned(files.config(), &kept)?;
        Ok(Self { files, kept, config, tokens })
    }

    /// The other model.
    pub fn source(&self) -> &PretrainedModel {
        &self.files
    }

    /// The shape of the pruned model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether nothing is left out of the other model or added to it.
    pub fn is_whole(&self) -> bool {
        self.config.named_parameters() == self.files.config().named_parameters()
    }

    /// The files that belong to the pruned model.
    ///
    /// # Errors
    /// The same as for [`PretrainedModel::companions`].
    pub fn companions(&self) -> Result<Companions> {
        let companions = self.files.companions()?;
        let has_all_layers = self.kept.layers.len() == self.files.config().num_hidden_layers;
        Ok(if has_all_layers { companions } else { companions.without_layers() })
    }

    /// Reads the weights onto `device`, in f32. The whole of the other model is in this machine's memory meanwhile,
    /// unless [`Self::is_whole`].
    ///
    /// # Errors
    /// The same as for [`PretrainedModel::load`]; [`Error::Tensor`] names a tensor that cannot be cut.
    pub fn load(&self, device: &Device) -> Result<Model> {
        if self.is_whole() {
            return self.files.load(device, Precision::F32);
        }
        let source = self.files.load(&Device::flex(), Precision::F32)?;
        let tensors: BTreeMap<String, StoredParameter<'_>> = source.named_parameters().into_iter().collect();
        let choice = |&layer: &usize| Choice::of_layer(&tensors, layer, &self.kept, source.config());
        let choices: Vec<Choice> = self.kept.layers.iter().map(choice).collect();
        let path = self.files.path();
        self.config.build(device, DType::F32, &mut |name, shape| {
            let (there, choice) = match choice::layer_of(name) {
                Some((layer, part)) => (choice::in_layer(self.kept.layers[layer], part), choices.get(layer)),
                None => (name.to_owned(), None),
            };
            let refuse = |problem: String| Error::Tensor { path: path.to_owned(), name: there.clone(), problem };
            let stored = tensors.get(&there).ok_or_else(|| refuse("is missing".to_owned()))?;
            let (values, got) = (stored.values(), stored.shape());
            let values = match choice {
                Some(choice) => choice.cut(&there, values, &got, shape),
                None => choice::with_rows(values, &got, shape, self.tokens),
            };
            let unknown = || format!("has shape {got:?}, and no rule says how to make {shape:?} of it");
            if values.len() == shape.iter().product::<usize>() { Ok(values) } else { Err(refuse(unknown())) }
        })
    }
}

impl Kept {
    fn of(
        wanted: &PrunedConfig,
        source: &ModelConfig,
        rows: RangeInclusive<usize>,
    ) -> std::result::Result<Self, ConfigError> {
        let layers = match &wanted.layers {
            None => (0..source.num_hidden_layers).collect(),
            Some(layers) => {
                check_layers(layers, source.num_hidden_layers)?;
                layers.clone()
            }
        };
        let heads = wanted.num_attention_heads.unwrap_or(source.num_attention_heads);
        let shared = source.num_attention_heads / source.num_key_value_heads;
        let fits = heads >= 1 && heads <= source.num_attention_heads && heads.is_multiple_of(shared);
        let expected = format!("a multiple of {shared} and at most {}", source.num_attention_heads);
        ConfigError::unless(fits, "num_attention_heads", heads, expected)
            .map_err(|error| error.because(format!("{shared} query heads of the model share a key head")))?;
        let channels = wanted.intermediate_size.unwrap_or(source.intermediate_size);
        let fits = (1..=source.intermediate_size).contains(&channels);
        let expected = format!("1 to {}, the model's", source.intermediate_size);
        ConfigError::unless(fits, "intermediate_size", channels, expected)?;
        let rows = match wanted.vocab_size {
            None => source.vocab_size.clamp(*rows.start(), *rows.end()),
            Some(size) => {
                let expected = format!("{} to {}", rows.start(), rows.end());
                let least = rows.start();
                ConfigError::unless(rows.contains(&size), "vocab_size", size, expected)
                    .map_err(|error| error.because(format!("its data has {least} tokens, none of which can be cut")))?;
                size
            }
        };
        Ok(Self { layers, groups: heads / shared, channels, rows })
    }
}

fn check_layers(layers: &[usize], count: usize) -> std::result::Result<(), ConfigError> {
    let refuse = |expected: String| Err(ConfigError::new("layers", format!("{layers:?}"), expected));
    if layers.is_empty() {
        return refuse("a list with at least one layer".to_owned());
    }
    if let Some(layer) = layers.iter().find(|&&layer| layer >= count) {
        return refuse(format!("a list of layers from 0 to {}, and there is no layer {layer}", count - 1));
    }
    match layers.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => refuse(format!("in ascending order without repetition, and {} follows {}", pair[1], pair[0])),
        None => Ok(()),
    }
}
