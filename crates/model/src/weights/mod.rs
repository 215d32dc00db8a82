//! Weights that others wrote, one file per form, all under Hugging Face's names and layout.

mod llama2c;
mod safetensors;
mod shards;

pub use self::llama2c::Llama2cWeights;
pub use self::safetensors::SafetensorsWeights;

use crate::{Error, Llama, LlamaConfig, Precision, Result};
use burn::tensor::{DType, Device};
use logitcask_core::rng::CounterRng;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Take};
use std::path::Path;

/// Named tensors on disk, read one at a time.
pub trait WeightSource {
    /// For messages.
    fn path(&self) -> &Path;

    /// Every tensor with its shape, by Hugging Face's names.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The number format in which one of them is stored; an error where this build does not read it.
    fn stored(&self, name: &str) -> Result<Precision>;

    /// The values of one of them in f32, row-major in Hugging Face's layout.
    fn values(&self, name: &str) -> Result<Vec<f32>>;

    /// Hash of the bytes of one of them, as safetensors stores it: row-major in Hugging Face's layout, little-endian, in
    /// the format of [`WeightSource::stored`].
    fn digest(&self, name: &str) -> Result<blake3::Hash>;
}

/// Checks, from what the files say about themselves, that `source` holds the model that `config` describes: every
/// tensor present in a format that is read, none left over, every shape right.
pub(crate) fn check(config: &LlamaConfig, source: &dyn WeightSource) -> Result<()> {
    let mut found: BTreeMap<String, Vec<usize>> = source.tensors().into_iter().collect();
    let path = source.path().to_owned();
    for (name, expected) in config.tensors() {
        match found.remove(&name) {
            None if name == HEAD => {
                let problem = "is missing, and config.json does not tie the head to the embedding; a model whose head is \
                               its embedding says \"tie_word_embeddings\": true";
                return Err(Error::Tensor { path, name, problem: problem.to_owned() });
            }
            None => return Err(Error::MissingTensor { path, name, expected }),
            Some(got) if got != expected => return Err(Error::Shape { path, name, expected, got }),
            Some(_) => source.stored(&name).map(drop)?,
        }
    }
    // Older files carry angles that every reader computes for itself, and some writers save a tied head a second time;
    // whether it is the embedding is seen when it is read.
    found.retain(|name, _| !name.ends_with(".rotary_emb.inv_freq") && name != HEAD);
    let count = found.len();
    match found.into_keys().next() {
        Some(name) => Err(Error::ExtraTensor { path, name, count }),
        None => Ok(()),
    }
}

const HEAD: &str = "lm_head.weight";

/// Builds the model that `config` describes from `source`, which must hold it and nothing else; every value must be
/// finite.
pub fn load(config: &LlamaConfig, source: &dyn WeightSource, device: &Device, dtype: DType) -> Result<Llama> {
    check(config, source)?;
    if config.tie_word_embeddings && source.tensors().iter().any(|(name, _)| name == HEAD) {
        check_tied_copy(source)?;
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

/// A tied head that is saved a second time is fine only while it is the embedding.
fn check_tied_copy(source: &dyn WeightSource) -> Result<()> {
    if source.values(HEAD)? == source.values("model.embed_tokens.weight")? {
        return Ok(());
    }
    Err(Error::Tensor {
        path: source.path().to_owned(),
        name: HEAD.to_owned(),
        problem: "config.json ties the head to the embedding, but this one differs from it".to_owned(),
    })
}

/// A tensor's bytes, all of them.
fn whole(mut data: Take<File>, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; data.limit() as usize];
    data.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
    Ok(bytes)
}

/// Hash of a tensor's bytes, which are never in memory together.
fn digest(data: Take<File>, path: &Path) -> Result<blake3::Hash> {
    let length = data.limit();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(data).map_err(Error::io(path, "read"))?;
    match hasher.count() == length {
        true => Ok(hasher.finalize()),
        false => Err(Error::io(path, "read")(ErrorKind::UnexpectedEof.into())),
    }
}

/// A fresh model: normal weights of deviation 0.02, those that write into the residual stream scaled by
/// 1 / sqrt(2 · layers), norms at one. Every tensor has its own stream, so the same seed gives the same model on any
/// device.
pub fn init(config: &LlamaConfig, seed: u64, device: &Device) -> Llama {
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
