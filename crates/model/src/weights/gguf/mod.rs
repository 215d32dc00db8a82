//! GGUF files, with the names and the layout of Hugging Face.

mod config;
mod names;

use super::WeightSource;
use crate::{Error, ModelConfig, Precision, Result};
use logitcask_gguf::{GgufFile, Tensor, TensorType};
use std::collections::BTreeMap;
use std::path::Path;

/// About how many bytes of a tensor are read at a time.
const PART_BYTES: usize = 1 << 20;
/// The key of the chat template; others have a name behind it.
const TEMPLATE: &str = "tokenizer.chat_template";

/// A model in one GGUF file. Quantised tensors are returned with the values that their blocks stand for, as f32.
///
/// llama.cpp rotates neighbouring rows of queries and keys in models of the architecture `llama`, which its converter
/// reorders for that; they are returned in the half-rotation order of Hugging Face.
pub struct GgufWeights {
    file: GgufFile,
    config: ModelConfig,
    /// Maps Hugging Face's names to the file's.
    names: BTreeMap<String, String>,
    has_pairs: bool,
}

impl GgufWeights {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Gguf`] if it cannot be read; [`Error::Config`] if it describes a model that this build does not open,
    /// or has a setting that it does not know.
    pub fn open(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let (config, has_pairs) = config::read(&file)?;
        // The scaling of the rotary embedding, which the config holds.
        let others = file.tensors().keys().filter(|name| *name != config::ROTARY_FACTORS);
        let names = others.map(|name| (names::in_hugging_face(name), name.clone())).collect();
        Ok(Self { file, config, names, has_pairs })
    }

    /// The shape that its metadata describe.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The chat templates, by the names of files in a Hugging Face folder.
    pub(crate) fn templates(&self) -> Vec<(String, Vec<u8>)> {
        let template = |(name, text): (Option<&str>, &str)| {
            let file = match name {
                None => "chat_template.jinja".to_owned(),
                Some(name) => format!("{}/{}.jinja", crate::Companions::TEMPLATES, plain(name)?),
            };
            Some((file, text.as_bytes().to_vec()))
        };
        self.file.texts_of(TEMPLATE).filter_map(template).collect()
    }

    /// The name in the file of a tensor, and its place.
    fn tensor(&self, name: &str) -> Result<(&str, &Tensor)> {
        let found = self.names.get(name).and_then(|own| Some((own.as_str(), self.file.tensors().get(own)?)));
        found.ok_or_else(|| Error::Tensor {
            path: self.file.path().to_owned(),
            name: name.to_owned(),
            problem: "no such tensor".to_owned(),
        })
    }

    /// Passes on the bytes of whole rows in Hugging Face's order.
    fn for_each_part(&self, name: &str, mut each: impl FnMut(&[u8])) -> Result<()> {
        let (own, tensor) = self.tensor(name)?;
        // A bias has rows of one value.
        let row = if tensor.shape.len() == 1 { tensor.tensor_type.block_bytes() } else { tensor.row_bytes() };
        if !(self.has_pairs && is_rotated(name)) {
            let part = (PART_BYTES / row).max(1) * row;
            return Ok(self.file.for_each_group(own, part, each)?);
        }
        let mut halves = Vec::new();
        Ok(self.file.for_each_group(own, self.config.head_dim * row, |head| {
            halves.clear();
            for parity in 0..2 {
                head.chunks_exact(row).skip(parity).step_by(2).for_each(|row| halves.extend_from_slice(row));
            }
            each(&halves);
        })?)
    }
}

/// A name that cannot lead to another folder.
fn plain(name: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

/// Whether these are rows of queries or keys.
fn is_rotated(name: &str) -> bool {
    ["q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias"].into_iter().any(|end| name.ends_with(end))
}

impl WeightSource for GgufWeights {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |own: &String| self.file.tensors().get(own).map(|tensor| tensor.shape.clone());
        self.names.iter().filter_map(|(name, own)| Some((name.clone(), shape(own)?))).collect()
    }

    fn stored(&self, name: &str) -> Result<Precision> {
        Ok(match self.tensor(name)?.1.tensor_type {
            TensorType::F16 => Precision::F16,
            TensorType::Bf16 => Precision::Bf16,
            _ => Precision::F32,
        })
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let (_, tensor) = self.tensor(name)?;
        let mut values = Vec::with_capacity(tensor.shape.iter().product());
        self.for_each_part(name, |part| tensor.tensor_type.dequantise(part, &mut values))?;
        Ok(values)
    }

    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        let (_, tensor) = self.tensor(name)?;
        let mut hasher = blake3::Hasher::new();
        let mut values = Vec::new();
        self.for_each_part(name, |part| match tensor.tensor_type {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
                hasher.update(part);
            }
            quantised => {
                values.clear();
                quantised.dequantise(part, &mut values);
                let bytes: Vec<u8> = values.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
        })?;
        Ok(hasher.finalize())
    }
}
