//! Weights in the 4-bit format MXFP4, as gpt-oss is published.
//!
//! A tensor NAME is there as NAME_blocks, u8 \[..., out, in / 32, 16\], and NAME_scales, u8 \[..., out, in / 32\]. A block
//! has 32 numbers of four bits, of each byte the lower ones first; a number is an entry of [`VALUES`] times 2^(scale -
//! 127). The tensor is the transpose, \[..., in, out\]. All numbers are exact in bf16.

use super::{SafetensorsWeights, WeightSource};
use crate::{Error, Precision, Result};
use half::bf16;
use std::collections::BTreeMap;
use std::path::Path;

const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// The numbers of four bits: a sign, two bits of exponent and one of mantissa.
const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A source some of whose tensors are in MXFP4.
pub(crate) struct Mxfp4Weights {
    source: SafetensorsWeights,
    /// The shape \[matrices, out, in\] of each tensor that is in blocks.
    packed: BTreeMap<String, [usize; 3]>,
}

impl Mxfp4Weights {
    /// The source itself if none of its tensors is in blocks.
    ///
    /// # Errors
    /// [`Error::Tensor`] if blocks lack their scales, or one of both has an unexpected shape.
    pub(crate) fn over(source: SafetensorsWeights) -> Result<Box<dyn WeightSource + Send + Sync>> {
        let shapes: BTreeMap<String, Vec<usize>> = source.tensors().into_iter().collect();
        let mut packed = BTreeMap::new();
        for (blocks, shape) in &shapes {
            let Some(name) = blocks.strip_suffix(BLOCKS) else { continue };
            let is_whole = |scales: &Vec<usize>| shape.len() == 4 && shape[3] == 16 && shape[..3] == scales[..];
            if !shapes.get(&format!("{name}{SCALES}")).is_some_and(is_whole) {
                let problem =
                    format!("has shape {shape:?} and no scales of its first three dimensions ({name}{SCALES})");
                return Err(Error::Tensor { path: source.path().to_owned(), name: blocks.clone(), problem });
            }
            packed.insert(name.to_owned(), [shape[0], shape[1], 32 * shape[2]]);
        }
        Ok(match packed.is_empty() {
            true => Box::new(source),
            false => Box::new(Self { source, packed }),
        })
    }

    /// Whether a tensor of the source is a part of one in blocks.
    fn is_part(&self, name: &str) -> bool {
        let whole = name.strip_suffix(BLOCKS).or_else(|| name.strip_suffix(SCALES));
        whole.is_some_and(|whole| self.packed.contains_key(whole))
    }

    fn unpacked(&self, name: &str, [matrices, out, inner]: [usize; 3]) -> Result<Vec<f32>> {
        let blocks = self.source.bytes(&format!("{name}{BLOCKS}"))?;
        let scales = self.source.bytes(&format!("{name}{SCALES}"))?;
        let mut values = vec![0.0; matrices * out * inner];
        for (block, (bytes, &scale)) in blocks.chunks_exact(16).zip(&scales).enumerate() {
            let factor = 2f32.powi(i32::from(scale) - 127);
            let (row, first) = (block / (inner / 32), block % (inner / 32) * 32);
            let (matrix, row) = (row / out, row % out);
            let numbers = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            for (column, number) in (first..).zip(numbers) {
                values[(matrix * inner + column) * out + row] = factor * VALUES[usize::from(number)];
            }
        }
        Ok(values)
    }
}

impl WeightSource for Mxfp4Weights {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let packed = self.packed.iter().map(|(name, [n, out, inner])| (name.clone(), vec![*n, *inner, *out]));
        self.source.tensors().into_iter().filter(|(name, _)| !self.is_part(name)).chain(packed).collect()
    }

    fn stored(&self, name: &str) -> Result<Precision> {
        if self.packed.contains_key(name) { Ok(Precision::Bf16) } else { self.source.stored(name) }
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        match self.packed.get(name) {
            Some(&shape) => self.unpacked(name, shape),
            None => self.source.values(name),
        }
    }

    /// That of the same numbers in bf16.
    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        let Some(&shape) = self.packed.get(name) else { return self.source.digest(name) };
        let values = self.unpacked(name, shape)?;
        let bytes: Vec<u8> = values.into_iter().flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect();
        Ok(blake3::hash(&bytes))
    }
}
