//! Normalisation.

use crate::host;
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

/// x / sqrt(mean(x²) + eps) · weight over the last dimension.
#[derive(Module, Debug)]
pub(super) struct Norm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// The parameter `NAME.weight`.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, name: &str, eps: f64) -> Result<Self, E> {
        Ok(Self { weight: parameters.vector(&format!("{name}.weight"))?, eps })
    }

    /// Computed in f32 whatever x is.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if host::serves(&x) {
            return host::rms_norm(x, self.weight.val(), self.eps);
        }
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let scale = (x.clone().square().mean_dim(D - 1) + self.eps).sqrt().recip();
        (x * scale).cast(dtype) * self.weight.val().unsqueeze()
    }

    /// Its parameter with its name.
    pub(super) fn named(&self, name: &str) -> (String, StoredParameter<'_>) {
        (format!("{name}.weight"), StoredParameter::Vector(&self.weight))
    }
}
