//! Readers of weights, one file per format, all with Hugging Face's names and layout.

mod gguf;
mod llama2c;
mod mxfp4;
mod parameter_reader;
mod renamed;
mod safetensors;
mod shards;
mod stored_tensor;

pub use self::gguf::GgufWeights;
pub use self::llama2c::Llama2cWeights;
pub(crate) use self::mxfp4::Mxfp4Weights;
pub(crate) use self::renamed::RenamedWeights;
pub use self::safetensors::SafetensorsWeights;
pub(crate) use self::shards::in_gguf;
pub use self::stored_tensor::StoredTensor;

use self::parameter_reader::ParameterReader;
use crate::families::Initial;
use crate::{Error, FinalLayers, Model, ModelConfig, Precision, Result};
use burn::tensor::{DType, Device};
use half::{bf16, f16};
use logitcask_core::rng::CounterRng;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Take};
use std::path::Path;

/// How many bytes of a tensor are read at a time; a multiple of the size of any number.
const PART_BYTES: u64 = 1 << 20;

/// Named tensors on disk, read one at a time.
pub trait WeightSource {
    /// Path for messages.
    fn path(&self) -> &Path;

    /// Every tensor with its Hugging Face name and its shape.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The number format in which a tensor is stored.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is no tensor with this name, or this build does not support its format.
    fn stored(&self, name: &str) -> Result<Precision>;

    /// The values of a tensor in f32, row-major in Hugging Face's layout.
    ///
    /// # Errors
    /// The same as for [`stored`](Self::stored); [`Error::Io`] if its bytes cannot be read.
    fn values(&self, name: &str) -> Result<Vec<f32>>;

    /// Hash of a tensor's bytes as safetensors stores them: row-major in Hugging Face's layout, little-endian, in the
    /// format of [`WeightSource::stored`].
    ///
    /// # Errors
    /// The same as for [`values`](Self::values).
    fn digest(&self, name: &str) -> Result<blake3::Hash>;
}

/// Checks from the files' headers that `source` holds the model that `config` describes: every tensor is present in a
/// supported format with the right shape, and there are no others.
pub(crate) fn check(config: &ModelConfig, source: &dyn WeightSource) -> Result<()> {
    let mut found: BTreeMap<String, Vec<usize>> = source.tensors().into_iter().collect();
    let (path, head) = (source.path().to_owned(), config.head_name());
    for (name, expected) in config.file_tensors() {
        match found.remove(&name) {
            None if Some(&name) == head.as_ref() => {
                let problem = "is missing, and config.json does not tie the head to the embedding; a model whose head is \
                               its embedding says \"tie_word_embeddings\": true";
                return Err(Error::Tensor { path, name, problem: problem.to_owned() });
            }
            None => return Err(Error::MissingTensor { path, name, expected }),
            Some(got) if got != expected => return Err(Error::Shape { path, name, expected, got }),
            Some(_) => source.stored(&name).map(drop)?,
        }
    }
    // Some writers save a tied head a second time; whether it equals the embedding is checked when it is read.
    found.retain(|name, _| !ModelConfig::is_ignored(name) && Some(name) != head.as_ref());
    let count = found.len();
    match found.into_keys().next() {
        Some(name) => Err(Error::ExtraTensor { path, name, count }),
        None => Ok(()),
    }
}

/// Builds the model that `config` describes from `source`.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::ExtraTensor`] or [`Error::Shape`] if `source` does not hold exactly this model;
/// [`Error::Tensor`] if a value is not finite, or a tied head is saved a second time and differs; [`Error::Io`].
pub fn load(config: &ModelConfig, source: &dyn WeightSource, device: &Device, dtype: DType) -> Result<Model> {
    check(config, source)?;
    check_tied_copy(config, source)?;
    let mut reader = ParameterReader::new(config.layout(), source);
    config.build(device, dtype, &mut |name, _| reader.values(name))
}

/// Builds what follows the last layer of that model, for which no other tensors are read.
///
/// # Errors
/// The same as for [`load`].
pub fn load_final_layers(
    config: &ModelConfig,
    source: &dyn WeightSource,
    device: &Device,
    dtype: DType,
) -> Result<FinalLayers> {
    check(config, source)?;
    check_tied_copy(config, source)?;
    let mut reader = ParameterReader::new(config.layout(), source);
    config.build_final_layers(device, dtype, &mut |name, _| reader.values(name))
}

/// Checks that the second copy of a tied head, if there is one, equals the embedding.
fn check_tied_copy(config: &ModelConfig, source: &dyn WeightSource) -> Result<()> {
    let Some([embedding, head]) = config.tied_names() else { return Ok(()) };
    let is_saved = source.tensors().iter().any(|(name, _)| *name == head);
    if !is_saved || source.values(&head)? == source.values(&embedding)? {
        return Ok(());
    }
    Err(Error::Tensor {
        path: source.path().to_owned(),
        name: head,
        problem: "config.json ties the head to the embedding, but this one differs from it".to_owned(),
    })
}

/// Reads all bytes of a tensor.
fn whole(mut data: Take<File>, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; data.limit() as usize];
    data.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
    Ok(bytes)
}

/// The values of a tensor that is stored in `precision`. Its bytes are read in parts, so that beside the values there
/// is no second copy of them.
fn floats(mut data: Take<File>, precision: Precision, path: &Path) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(data.limit() as usize / precision.bytes());
    let mut part = vec![0; data.limit().min(PART_BYTES) as usize];
    while data.limit() > 0 {
        part.truncate(data.limit().min(PART_BYTES) as usize);
        data.read_exact(&mut part).map_err(Error::io(path, "read"))?;
        let pairs = part.chunks_exact(2).map(|b| [b[0], b[1]]);
        match precision {
            Precision::F32 => {
                values.extend(part.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Precision::F16 => values.extend(pairs.map(|b| f16::from_le_bytes(b).to_f32())),
            Precision::Bf16 => values.extend(pairs.map(|b| bf16::from_le_bytes(b).to_f32())),
        }
    }
    Ok(values)
}

/// Hash of a tensor's bytes, which are streamed rather than held in memory.
fn digest(data: Take<File>, path: &Path) -> Result<blake3::Hash> {
    let length = data.limit();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(data).map_err(Error::io(path, "read"))?;
    match hasher.count() == length {
        true => Ok(hasher.finalize()),
        false => Err(Error::io(path, "read")(ErrorKind::UnexpectedEof.into())),
    }
}

/// Creates a model with the random initial weights of its family. Every tensor has its own random stream, so the same
/// seed gives the same model on any device.
pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Model {
    let mut index = 0;
    let built = config.build(device, DType::F32, &mut |name, shape| {
        let mut rng = CounterRng::new("logitcask initial weights", &[seed, index]);
        index += 1;
        let count = shape.iter().product();
        Ok::<_, std::convert::Infallible>(match config.initial(name) {
            Initial::Constant(value) => vec![value; count],
            Initial::Normal { deviation } => (0..count).map(|_| (rng.normal() * deviation) as f32).collect(),
        })
    });
    match built {
        Ok(model) => model,
        Err(never) => match never {},
    }
}
