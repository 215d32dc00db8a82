//! Who gives the logits.

mod local;

pub use local::LocalTeacher;

use crate::Result;
use logitcask_data::batches::TokenBatch;

/// Raw logits of consecutive positions of a batch.
pub struct LogitsChunk {
    /// Number of the first position, counted through the batch sample by sample, padding left out.
    pub first_position: usize,
    /// \[positions, vocabulary\], row-major.
    pub logits: Vec<f32>,
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
