//! Hugging Face safetensors, one file or a sharded index.

use super::shards::{self, Shards};
use super::{WeightSource, digest, floats, whole};
use crate::{Error, Precision, Result, files};
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

/// Maximum size of a header: those of the largest models have a few hundred kilobytes.
const HEADER_LIMIT: u64 = 100 << 20;

/// The tensors of `model.safetensors`, or of every shard that `model.safetensors.index.json` names.
pub struct SafetensorsWeights {
    folder: PathBuf,
    tensors: BTreeMap<String, Place>,
}

struct Place {
    file: PathBuf,
    data_start: u64,
    info: TensorInfo,
}

impl SafetensorsWeights {
    /// Reads the headers in `folder`; tensor data is not read yet.
    ///
    /// # Errors
    /// [`Error::NotAModel`] or [`Error::Files`] if weights are missing, incomplete, or in another format;
    /// [`Error::Tensor`] if two shards contain the same tensor, or the index names another shard for it; [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        let Shards { files, index } = shards::find(folder)?;
        let mut tensors: BTreeMap<String, Place> = BTreeMap::new();
        for file in files {
            let (metadata, data_start) = header(&file)?;
            for (name, info) in metadata.tensors() {
                let place = Place { file: file.clone(), data_start, info: info.clone() };
                if tensors.insert(name.clone(), place).is_some() {
                    return Err(Error::Tensor { path: file, name, problem: "stands in two shards".to_owned() });
                }
            }
        }
        for (name, file) in index.into_iter().flatten() {
            let path = folder.join(file);
            if tensors.get(&name).is_none_or(|place| place.file != path) {
                let problem = "the index says that it stands here, and it does not".to_owned();
                return Err(Error::Tensor { path, name, problem });
            }
        }
        Ok(Self { folder: folder.to_owned(), tensors })
    }

    fn place(&self, name: &str) -> Result<&Place> {
        self.tensors.get(name).ok_or_else(|| Error::Tensor {
            path: self.folder.clone(),
            name: name.to_owned(),
            problem: "no such tensor".to_owned(),
        })
    }
}

impl SafetensorsWeights {
    /// The bytes of a tensor that must be stored as unsigned bytes.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let place = self.place(name)?;
        match place.info.dtype {
            Dtype::U8 => whole(place.data()?, &place.file),
            other => Err(Error::Tensor {
                path: place.file.clone(),
                name: name.to_owned(),
                problem: format!("is stored as {other:?}; blocks of 4-bit numbers are stored as U8"),
            }),
        }
    }
}

impl Place {
    /// The tensor's bytes in the file.
    fn data(&self) -> Result<Take<File>> {
        let (start, end) = self.info.data_offsets;
        let mut file = File::open(&self.file).map_err(Error::io(&self.file, "open"))?;
        file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(Error::io(&self.file, "read"))?;
        Ok(file.take((end - start) as u64))
    }
}

fn header(path: &Path) -> Result<(Metadata, u64)> {
    let (mut file, size) = files::open(path)?;
    let mut length = [0; 8];
    let refuse = |problem: String| Error::NotAModel { path: path.to_owned(), problem };
    file.read_exact(&mut length).map_err(|_| refuse("shorter than a safetensors header".into()))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_LIMIT.min(size.saturating_sub(8)) {
        return Err(refuse(format!("claims a header of {length} bytes in a file of {size}")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
    let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|e| refuse(format!("not safetensors: {e}")))?;
    let is_odd = |info: &&TensorInfo| {
        let (start, end) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &n| bits.checked_mul(n));
        end < start || bits != (end - start).checked_mul(8)
    };
    if let Some(info) = metadata.tensors().into_values().find(is_odd) {
        return Err(refuse(format!("a tensor of shape {:?} claims the bytes {:?}", info.shape, info.data_offsets)));
    }
    let end = metadata.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0) as u64;
    if 8 + length + end != size {
        return Err(refuse(format!(
            "its tensors end at byte {}, the file at {size}: it is damaged or cut off",
            8 + length + end
        )));
    }
    Ok((metadata, 8 + length))
}

impl WeightSource for SafetensorsWeights {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, place)| (name.clone(), place.info.shape.clone())).collect()
    }

    fn stored(&self, name: &str) -> Result<Precision> {
        let place = self.place(name)?;
        match place.info.dtype {
            Dtype::F32 => Ok(Precision::F32),
            Dtype::F16 => Ok(Precision::F16),
            Dtype::BF16 => Ok(Precision::Bf16),
            other => Err(Error::Tensor {
                path: place.file.clone(),
                name: name.to_owned(),
                problem: format!("is stored as {other:?}; this build reads F32, F16 and BF16"),
            }),
        }
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        floats(self.place(name)?.data()?, self.stored(name)?, &self.place(name)?.file)
    }

    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        let place = self.place(name)?;
        digest(place.data()?, &place.file)
    }
}
