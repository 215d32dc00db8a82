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

/// What a feed-forward network makes of its gate and its up-projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    /// activation(gate) · up.
    Plain(Activation),
    /// gpt-oss' own formula.
    Clamped(Clamp),
}

/// (clamp(up, -limit, limit) + 1) · g · sigmoid(alpha · g) with g = min(gate, limit), as in gpt-oss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clamp {
    /// The bound.
    pub(crate) limit: f64,
    /// The factor within the sigmoid.
    pub(crate) alpha: f64,
}

impl Gate {
    /// By tensor operations.
    pub(crate) fn apply(self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Plain(activation) => activation.apply(gate) * up,
            Self::Clamped(Clamp { limit, alpha }) => {
                let gate = gate.clamp_max(limit);
                let share = activation::sigmoid(gate.clone() * alpha);
                (up.clamp(-limit, limit) + 1.0) * gate * share
            }
        }
    }
}
