//! Temperatures on the device.

use burn::tensor::Tensor;

/// A temperature: one for all positions, or one for each, \[n, 1\].
#[derive(Clone, Debug)]
pub enum Temperature {
    /// The same for all positions.
    Same(f64),
    /// One for each position, \[n, 1\].
    Each(Box<Tensor<2>>),
}

impl Temperature {
    /// Creates one temperature for each position, \[n, 1\].
    pub fn each(t: Tensor<2>) -> Self {
        Self::Each(Box::new(t))
    }

    /// x / T. x: \[n, width\].
    pub fn divide(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Same(1.0) => x,
            Self::Same(t) => x / *t,
            Self::Each(t) => x / (**t).clone(),
        }
    }

    /// x · T. x: \[n, width\].
    pub fn multiply(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Same(1.0) => x,
            Self::Same(t) => x * *t,
            Self::Each(t) => x * (**t).clone(),
        }
    }

    /// T / 2, at which probabilities are proportional to the squares of those at T.
    pub fn half(&self) -> Self {
        match self {
            Self::Same(t) => Self::Same(t / 2.0),
            Self::Each(t) => Self::each((**t).clone() / 2.0),
        }
    }

    /// The same temperature, detached from any graph.
    pub fn plain(&self) -> Self {
        match self {
            Self::Same(t) => Self::Same(*t),
            Self::Each(t) => Self::each((**t).clone().detach().without_autodiff()),
        }
    }
}
