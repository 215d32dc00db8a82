//! Hugging Face safetensors, one file or a sharded index.

use super::WeightSource;
use super::shards::{self, Shards};
use super::stored_tensor::StoredTensor;
use crate::{Error, Precision, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensors of `model.safetensors`, or of every shard that `model.safetensors.index.json` names.
pub struct SafetensorsWeights {
    folder: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
}

impl SafetensorsWeights {
    /// Reads the headers in `folder`; tensor data is not read yet.
    ///
    /// # Errors
    /// [`Error::NotAModel`] or [`Error::Files`] if weights are missing, incomplete, or in another format;
    /// [`Error::Tensor`] if two shards contain the same tensor, or the index names another shard for it; [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        let Shards { files, index } = shards::find(folder)?;
        let mut tensors: BTreeMap<String, StoredTensor> = BTreeMap::new();
        for file in files {
            for (name, tensor) in StoredTensor::all_of(&file)? {
                if tensors.insert(name.clone(), tensor).is_some() {
                    return Err(Error::Tensor { path: file, name, problem: "stands in two shards".to_owned() });
                }
            }
        }
        for (name, file) in index.into_iter().flatten() {
            let path = folder.join(file);
            if tensors.get(&name).is_none_or(|tensor| tensor.path() != path) {
                let problem = "the index says that it stands here, and it does not".to_owned();
                return Err(Error::Tensor { path, name, problem });
            }
        }
        Ok(Self { folder: folder.to_owned(), tensors })
    }

    fn tensor(&self, name: &str) -> Result<&StoredTensor> {
        self.tensors.get(name).ok_or_else(|| Error::Tensor {
            path: self.folder.clone(),
            name: name.to_owned(),
            problem: "no such tensor".to_owned(),
        })
    }

    /// The bytes of a tensor that must be stored as unsigned bytes.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.tensor(name)?.bytes()
    }
}

impl WeightSource for SafetensorsWeights {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect()
    }

    fn stored(&self, name: &str) -> Result<Precision> {
        self.tensor(name)?.precision()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        tensor.floats(0..tensor.value_count())
    }

    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        self.tensor(name)?.digest()
    }
}
