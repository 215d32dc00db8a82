//! The nonlinearities of feed-forward networks.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// √(2/π).
pub(crate) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The factor of x³ in the tanh form of GELU.
pub(crate) const CUBIC: f64 = 0.044_715;

/// An elementwise nonlinearity, with Hugging Face's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// x / (1 + e^-x).
    #[default]
    #[serde(rename = "silu")]
    Silu,
    /// x · Φ(x), with the normal distribution's Φ(x) = (1 + erf(x / √2)) / 2 (1606.08415).
    #[serde(rename = "gelu")]
    Gelu,
    /// x · (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, which is near to the former.
    #[serde(rename = "gelu_pytorch_tanh")]
    GeluTanh,
    /// max(x, 0).
    #[serde(rename = "relu")]
    Relu,
}

impl Activation {
    /// By tensor operations.
    pub(crate) fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => {
                // Written out: a power of a negative number is none in some GPUs' arithmetic.
                let inner = x.clone() * (x.clone() * x.clone() * CUBIC + 1.0) * SQRT_2_OVER_PI;
                x * (inner.tanh() + 1.0) * 0.5
            }
            Self::Relu => activation::relu(x),
        }
    }
}
