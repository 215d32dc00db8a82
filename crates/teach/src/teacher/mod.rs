//! Who gives the logits.

mod buffer_pool;
mod local;

pub use buffer_pool::HostLogits;
pub use local::LocalTeacher;

use crate::{Error, Result};
use burn::tensor::{DType, Tensor};
use logitcask_data::batches::TokenBatch;

/// Raw logits of consecutive positions of a batch.
pub struct LogitsChunk {
    /// Number of the first position, counted through the batch sample by sample, padding left out.
    pub first_position: usize,
    /// \[positions, vocabulary\].
    pub logits: Logits,
}

/// Rows of logits, where the teacher computed them.
pub enum Logits {
    /// In memory.
    Host(HostLogits),
    /// On a device of CubeCL, which is slow to read from.
    Device(Box<Tensor<2>>),
}

impl Logits {
    /// Number of rows.
    pub fn positions(&self, vocab_size: usize) -> usize {
        match self {
            Self::Host(logits) => logits.len() / vocab_size,
            Self::Device(logits) => logits.dims()[0],
        }
    }
}

/// The numbers of a tensor in memory.
pub(crate) fn host(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))
}

/// Gives logits for batches of tokens.
pub trait Teacher: Send + Sync {
    /// Number of classes.
    fn vocab_size(&self) -> usize;

    /// Batches worth running at once, each on a thread of its own.
    fn workers(&self) -> usize;

    /// Hands `each` the logits of every position that has a next token, in order and in bounded pieces.
    fn logits(&self, batch: &TokenBatch, each: &mut dyn FnMut(LogitsChunk) -> Result<()>) -> Result<()>;
}
