//! Hugging Face safetensors, one file or a sharded index.

use super::WeightSource;
use crate::{Error, Result};
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Headers are a few hundred kilobytes for the largest models; more than this is not one of ours.
const HEADER_LIMIT: u64 = 100 << 20;

/// The tensors of `model.safetensors`, or of every shard that `model.safetensors.index.json` names.
pub struct SafetensorsWeights {
    folder: PathBuf,
    tensors: BTreeMap<String, Place>,
    files: Vec<PathBuf>,
}

struct Place {
    file: usize,
    data_start: u64,
    info: TensorInfo,
}

impl SafetensorsWeights {
    /// Reads the headers in `folder`; tensor data stays on disk.
    pub fn open(folder: &Path) -> Result<Self> {
        let files = weight_files(folder)?;
        let mut tensors = BTreeMap::new();
        for (file, path) in files.iter().enumerate() {
            let (metadata, data_start) = header(path)?;
            for (name, info) in metadata.tensors() {
                let place = Place { file, data_start, info: info.clone() };
                if tensors.insert(name.clone(), place).is_some() {
                    let problem = "stands in two shards".to_owned();
                    return Err(Error::Tensor { path: path.clone(), name, problem });
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), tensors, files })
    }

    /// The files that hold the tensors, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        let problem = "neither model.safetensors nor model.safetensors.index.json is there".to_owned();
        return Err(Error::NotAModel { path: folder.to_owned(), problem });
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let refuse = |problem: String| Error::NotAModel { path: index.clone(), problem };
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index, "read"))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| refuse(format!("not a weight index: {e}")))?;
    let names: std::collections::BTreeSet<String> = parsed.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(std::ffi::OsStr::new(name))) {
        return Err(refuse(format!("shard `{name}` is not a plain file name")));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn header(path: &Path) -> Result<(Metadata, u64)> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let size = file.metadata().map_err(Error::io(path, "read"))?.len();
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

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let problem =
            |path: &Path, problem: String| Error::Tensor { path: path.to_owned(), name: name.to_owned(), problem };
        let place = self.tensors.get(name).ok_or_else(|| problem(&self.folder, "no such tensor".into()))?;
        let path = &self.files[place.file];
        let (start, end) = place.info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        file.seek(SeekFrom::Start(place.data_start + start as u64)).map_err(Error::io(path, "read"))?;
        file.read_exact(&mut bytes).map_err(Error::io(path, "read"))?;
        match place.info.dtype {
            Dtype::F32 => Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
            Dtype::F16 => Ok(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
            Dtype::BF16 => Ok(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
            other => Err(problem(path, format!("is stored as {other:?}; this build reads F32, F16 and BF16"))),
        }
    }
}
