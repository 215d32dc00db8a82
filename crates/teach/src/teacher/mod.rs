//! Who gives the logits.

mod buffer_pool;
mod local;

pub use buffer_pool::HostLogits;
pub use local::LocalTeacher;

use crate::{Error, Result};
use burn::tensor::{DType, Tensor};
use logitcask_data::batches::TokenBatch;
use std::ops::Range;

/// What a teacher says at consecutive positions of a batch.
pub struct Outputs {
    /// Which, as a range of the batch's [`positions`](TokenBatch::positions) and [`labels`](TokenBatch::labels).
    pub positions: Range<usize>,
    /// Raw logits, \[positions, vocabulary\].
    pub logits: Logits,
}

/// Rows of logits, where the teacher computed them.
pub enum Logits {
    /// In memory.
    Host(HostLogits),
    /// On a device of CubeCL, which is slow to read from.
    Device(Box<Tensor<2>>),
}

/// The numbers of a tensor in memory.
pub(crate) fn host(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))
}

/// Says what it expects at the positions of a batch.
pub trait Teacher: Send + Sync {
    /// Number of classes.
    fn vocab_size(&self) -> usize;

    /// Batches worth running at once, each on a thread of its own.
    fn workers(&self) -> usize;

    /// Hands `each` what it says at every one of the batch's positions, in order and in bounded pieces.
    ///
    /// # Errors
    /// [`Error::Device`], or what `each` gave: then nothing more is handed to it.
    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()>;
}
