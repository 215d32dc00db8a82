//! Tensors as the number type for the formulas of [`logitcask_core::divergence`].

use crate::loss::log_sum_exp;
use burn::tensor::{Tensor, activation};
use logitcask_core::divergence::{Number, Rows, WholeRows};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The values of n positions, \[n, classes\], on a device, and in an autodiff graph if one is used.
#[derive(Clone, Debug)]
pub struct OnDevice(pub Tensor<2>);

impl Add for OnDevice {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for OnDevice {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul for OnDevice {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl Div for OnDevice {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
}

impl Neg for OnDevice {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Add<f64> for OnDevice {
    type Output = Self;

    fn add(self, constant: f64) -> Self {
        Self(self.0 + constant)
    }
}

impl Mul<f64> for OnDevice {
    type Output = Self;

    fn mul(self, constant: f64) -> Self {
        Self(self.0 * constant)
    }
}

/// Padding has the log-probability [`crate::target_batch::NO_CLASS`]. All functions and their slopes are finite there,
/// so that a count of 0 removes its contribution.
impl Number for OnDevice {
    fn exp(self) -> Self {
        Self(self.0.exp())
    }

    fn ln(self) -> Self {
        Self(self.0.log())
    }

    fn abs(self) -> Self {
        Self(self.0.abs())
    }

    fn weighted_by(self, weight: Self) -> Self {
        weight * self
    }

    fn log_mix(share: f64, a: Self, b: Self) -> Self {
        let (a, b) = (a.0 + share.ln(), b.0 + (1.0 - share).ln());
        let max = a.clone().detach().max_pair(b.clone().detach());
        Self(((a - max.clone()).exp() + (b - max.clone()).exp()).log() + max)
    }
}

impl Rows for OnDevice {
    fn sum(self) -> Self {
        Self(self.0.sum_dim(1))
    }

    fn log_sum_exp(self) -> Self {
        Self(log_sum_exp(self.0))
    }

    fn at_least(self, least: f64) -> Self {
        Self(self.0.clamp_min(least))
    }

    fn beside(self, other: Self) -> Self {
        Self(Tensor::cat(vec![self.0, other.0], 1))
    }
}

impl WholeRows for OnDevice {
    fn mean_of_positions(self) -> Self {
        Self(self.0.mean_dim(0))
    }

    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }

    fn sigmoid(self) -> Self {
        Self(activation::sigmoid(self.0))
    }

    fn positive_mask(self) -> Self {
        Self(self.0.greater_elem(0.0).float())
    }

    fn pairs(self) -> [Self; 2] {
        let [n, k] = self.0.dims();
        let copies = |x: Tensor<3>| Self(x.expand([n, k, k]).reshape([n * k, k]));
        [copies(self.0.clone().reshape([n, k, 1])), copies(self.0.reshape([n, 1, k]))]
    }

    fn sum_of_pairs(self) -> Self {
        let [pairs, k] = self.0.dims();
        Self(self.0.sum_dim(1).reshape([pairs / k, k]))
    }
}
