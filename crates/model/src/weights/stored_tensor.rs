//! Single tensors of safetensors files, of which parts can be read.

use super::{digest, floats, whole};
use crate::{Error, Precision, Result, files};
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Maximum size of a header: those of the largest models have a few hundred kilobytes.
const HEADER_LIMIT: u64 = 100 << 20;

/// A tensor of a safetensors file, whose values are read when they are asked for.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    path: Arc<Path>,
    name: String,
    /// Its first byte in the file.
    start: u64,
    info: TensorInfo,
}

impl StoredTensor {
    /// Every tensor of a file by its name. Only the header is read, and compared with the file's length.
    ///
    /// # Errors
    /// [`Error::Files`] if the header is not one of safetensors, or the file is cut off; [`Error::Io`].
    pub fn all_of(path: &Path) -> Result<BTreeMap<String, Self>> {
        let (metadata, start) = header(path)?;
        let path: Arc<Path> = path.into();
        let tensor = |(name, info): (String, &TensorInfo)| {
            let (path, start) = (path.clone(), start + info.data_offsets.0 as u64);
            (name.clone(), Self { path, name, start, info: info.clone() })
        };
        Ok(metadata.tensors().into_iter().map(tensor).collect())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    /// Number of its values.
    pub fn value_count(&self) -> usize {
        self.info.shape.iter().product()
    }

    /// The number format, if it is one of weights.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is another one.
    pub fn precision(&self) -> Result<Precision> {
        match self.info.dtype {
            Dtype::F32 => Ok(Precision::F32),
            Dtype::F16 => Ok(Precision::F16),
            Dtype::BF16 => Ok(Precision::Bf16),
            other => Err(self.problem(format!("is stored as {other:?}; this build reads F32, F16 and BF16"))),
        }
    }

    /// These of its values in row-major order, in f32.
    ///
    /// # Errors
    /// The same as for [`precision`](Self::precision); [`Error::Io`] if its bytes cannot be read.
    pub fn floats(&self, values: Range<usize>) -> Result<Vec<f32>> {
        let precision = self.precision()?;
        floats(self.data(values, precision.bytes())?, precision, &self.path)
    }

    /// These of its whole numbers or truth values in row-major order.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it holds other values; [`Error::Io`] if its bytes cannot be read.
    pub fn integers(&self, values: Range<usize>) -> Result<Vec<i64>> {
        let size = match self.info.dtype {
            Dtype::I64 | Dtype::U64 => 8,
            Dtype::I32 | Dtype::U32 => 4,
            Dtype::U8 | Dtype::BOOL => 1,
            other => {
                let problem =
                    format!("is stored as {other:?}; whole numbers are read as I64, U64, I32, U32, U8 or BOOL");
                return Err(self.problem(problem));
            }
        };
        let bytes = whole(self.data(values, size)?, &self.path)?;
        let is_signed = self.info.dtype == Dtype::I32;
        let number = |bytes: &[u8]| match *bytes {
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            [a, b, c, d] if is_signed => i32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            _ => bytes.first().copied().unwrap_or_default().into(),
        };
        Ok(bytes.chunks_exact(size).map(number).collect())
    }

    /// Hash of its bytes, which are not held in memory.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn digest(&self) -> Result<blake3::Hash> {
        digest(self.data(0..self.info.data_offsets.1 - self.info.data_offsets.0, 1)?, &self.path)
    }

    /// Its bytes, which must be stored as unsigned bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        match self.info.dtype {
            Dtype::U8 => whole(self.data(0..self.value_count(), 1)?, &self.path),
            other => Err(self.problem(format!("is stored as {other:?}; blocks of 4-bit numbers are stored as U8"))),
        }
    }

    fn data(&self, values: Range<usize>, size: usize) -> Result<Take<File>> {
        let mut file = File::open(&self.path).map_err(Error::io(&self.path, "open"))?;
        let start = self.start + (values.start * size) as u64;
        file.seek(SeekFrom::Start(start)).map_err(Error::io(&self.path, "read"))?;
        Ok(file.take((values.len() * size) as u64))
    }

    fn problem(&self, problem: String) -> Error {
        Error::Tensor { path: self.path.to_path_buf(), name: self.name.clone(), problem }
    }
}

/// The header, and the place of the first byte behind it.
fn header(path: &Path) -> Result<(Metadata, u64)> {
    let (mut file, size) = files::open(path)?;
    let mut length = [0; 8];
    let refuse = |problem: String| Error::Files { path: path.to_owned(), problem };
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
