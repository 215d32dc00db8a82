//! Weights that others wrote, one file per form, all under Hugging Face's names and layout.

mod llama2c;
mod safetensors;

pub use self::llama2c::Llama2cWeights;
pub use self::safetensors::SafetensorsWeights;

use crate::{Error, Llama, LlamaConfig, Result};
use burn::tensor::{DType, Device};
use logitcask_core::rng::CounterRng;
use std::path::Path;

/// Named tensors on disk, read one at a time.
pub trait WeightSource {
    /// For messages.
    fn path(&self) -> &Path;

    /// Every tensor with its shape, by Hugging Face's names.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The values of one of them in f32, row-major in Hugging Face's layout.
    fn values(&self, name: &str) -> Result<Vec<f32>>;
}

/// Builds the model that `config` describes from `source`: every tensor present, none left over, every shape right,
/// every value finite.
pub fn load(config: &LlamaConfig, source: &dyn WeightSource, device: &Device, dtype: DType) -> Result<Llama> {
    let found: std::collections::BTreeMap<String, Vec<usize>> = source.tensors().into_iter().collect();
    let wanted = config.tensors();
    let path = source.path().to_owned();
    for (name, expected) in &wanted {
        match found.get(name) {
            None => return Err(Error::MissingTensor { path, name: name.clone(), expected: expected.clone() }),
            Some(got) if got != expected => {
                return Err(Error::Shape { path, name: name.clone(), expected: expected.clone(), got: got.clone() });
            }
            Some(_) => {}
        }
    }
    let extra: Vec<&String> = found
        .keys()
        .filter(|name| !wanted.iter().any(|(wanted, _)| wanted == *name))
        // Angles that older files carry and every reader computes for itself.
        .filter(|name| !name.ends_with(".rotary_emb.inv_freq"))
        .collect();
    match extra.as_slice() {
        [] => {}
        [name] if *name == "lm_head.weight" => check_tied_copy(source)?,
        [name, ..] => return Err(Error::ExtraTensor { path, name: (*name).clone(), count: extra.len() }),
    }
    Llama::build(config, device, dtype, |name, _| {
        let values = source.values(name)?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(bad) => Err(Error::Tensor {
                path: source.path().to_owned(),
                name: name.to_owned(),
                problem: format!("holds {bad}; a weight must be a finite number"),
            }),
        }
    })
}

/// Some writers save a tied head a second time; that is fine only while it is the embedding.
fn check_tied_copy(source: &dyn WeightSource) -> Result<()> {
    if source.values("lm_head.weight")? == source.values("model.embed_tokens.weight")? {
        return Ok(());
    }
    Err(Error::Tensor {
        path: source.path().to_owned(),
        name: "lm_head.weight".to_owned(),
        problem: "config.json ties the head to the embedding, but this one differs from it".to_owned(),
    })
}

/// A fresh model: normal weights of deviation 0.02, those that write into the residual stream scaled by
/// 1 / sqrt(2 · layers), norms at one. Every tensor has its own stream, so the same seed gives the same model on any
/// device.
pub fn fresh(config: &LlamaConfig, seed: u64, device: &Device) -> Llama {
    let residual = 0.02 / (2.0 * config.num_hidden_layers as f64).sqrt();
    let mut index = 0;
    let built = Llama::build(config, device, DType::F32, |name, shape| {
        let mut rng = CounterRng::new("logitcask initial weights", &[seed, index]);
        index += 1;
        let deviation =
            if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") { residual } else { 0.02 };
        let count = shape.iter().product();
        Ok::<_, std::convert::Infallible>(match shape.len() {
            1 => vec![1.0; count],
            _ => (0..count).map(|_| (rng.normal() * deviation) as f32).collect(),
        })
    });
    match built {
        Ok(model) => model,
        Err(never) => match never {},
    }
}
