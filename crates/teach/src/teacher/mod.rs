//! Teachers: models that compute the logits.

mod buffer_pool;
mod head_product;
mod local;
mod projection;
mod remote;
mod states;

pub use buffer_pool::HostLogits;
pub use local::{FORWARD_VERSION, LocalTeacher};
pub use remote::RemoteTeacher;
pub use states::StatesTeacher;

use crate::{Error, Result};
use burn::tensor::{DType, Tensor};
use logitcask_core::{ExtraColumn, RowErrors, SoftRows};
use logitcask_data::batches::TokenBatch;
use std::ops::Range;

/// A teacher's outputs at consecutive positions of a batch.
pub struct Outputs {
    /// The positions, as a range of the batch's [`positions`](TokenBatch::positions) and
    /// [`labels`](TokenBatch::labels).
    pub positions: Range<usize>,
    /// Raw logits, \[positions, vocabulary + padding\], or the rows that a server told in their place.
    pub logits: Logits,
    /// The vectors of each of the teacher's [`extras`](Teacher::extras), \[positions, size\], row-major, not rounded yet.
    pub extras: Vec<Vec<f32>>,
}

impl Outputs {
    /// The same outputs with their logits in memory.
    ///
    /// # Errors
    /// [`Error::Device`] if the logits cannot be read back from their device.
    pub fn in_memory(self) -> Result<Self> {
        match self.logits {
            Logits::Host(_) | Logits::Selected(_) => Ok(self),
            Logits::Device(logits) => Ok(Self { logits: Logits::Host(host(*logits)?.into()), ..self }),
        }
    }
}

/// Rows of logits, in the place where the teacher computed them.
pub enum Logits {
    /// In memory.
    Host(HostLogits),
    /// On a CubeCL device, which is slow to read from.
    Device(Box<Tensor<2>>),
    /// None: a server selected the classes, and these are the rows of the positions, with the errors of their rounding.
    Selected(Box<(SoftRows, RowErrors)>),
}

/// Reads a tensor back from its device as f32, row-major.
pub(crate) fn host(logits: Tensor<2>) -> Result<Vec<f32>> {
    logits.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))
}

/// Computes logits at the positions of a batch.
pub trait Teacher: Send + Sync {
    /// Number of classes.
    fn vocab_size(&self) -> usize;

    /// What the teacher computes beside the logits, for the columns of these.
    fn extras(&self) -> &[ExtraColumn] {
        &[]
    }

    /// Number of batches that are worth running in parallel, each on its own thread.
    fn workers(&self) -> usize;

    /// Calls `each` with the outputs for all of the batch's positions, in order and in pieces of bounded size.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails, or the first error that `each` returns; `each` is not called again after
    /// that.
    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()>;
}
