//! The number format that a student computes in while it is trained.

use crate::Result;
use burn::tensor::{DType, Device};
use logitcask_model::Precision;
use serde::{Deserialize, Serialize};

/// Number format of the forward and backward pass of a student. Its weights, which the optimizer updates, are in f32 in
/// either (mixed precision, 1710.03740): a step smaller than half of the distance to the next number would otherwise be
/// lost. There is no f16: its smallest number is 6e-8, below which gradients would be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainPrecision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, which has the range of f32.
    Bf16,
}

impl TrainPrecision {
    /// The corresponding type in burn.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if `device` does not support arithmetic in it.
    pub fn dtype(self, device: &Device) -> Result<DType> {
        let precision = match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        };
        Ok(precision.dtype(device)?)
    }

    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}
