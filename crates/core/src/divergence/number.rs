//! The number types that formulas are generic over, so that each formula is written once.
//!
//! [`Number`] provides what a formula needs for a pair of log-probabilities, element by element. It is implemented by
//! [`Dual`] in f32 or f64 with a slope, by [`super::Matrix`] in f64 with the history of the computation, and by a
//! trainer's tensors on a device. [`Rows`] adds sums over classes, and [`WholeRows`] the operations of formulas that
//! use a row as a whole.

use crate::exp::exp_nonpositive;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Arithmetic with broadcasting: \[n, 1\] and \[1, classes\] are repeated to match the other operand.
pub trait Number:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// e^x for x <= 0, such as the logarithm of a probability.
    fn exp(self) -> Self;

    /// Natural logarithm.
    fn ln(self) -> Self;

    /// |x|, with slope 0 at 0.
    fn abs(self) -> Self;

    /// weight · x, and 0 if the weight is 0 whatever x is: terms of probability zero contribute nothing.
    fn weighted_by(self, weight: Self) -> Self;

    /// log(share e^a + (1 - share) e^b): the log-probability of a mixture.
    fn log_mix(share: f64, a: Self, b: Self) -> Self;
}

/// The values of n positions, \[n, classes\].
pub trait Rows: Number {
    /// Σ over the classes, \[n, 1\].
    fn sum(self) -> Self;

    /// log Σ e^x over the classes, \[n, 1\].
    fn log_sum_exp(self) -> Self;

    /// The maximum of x and `least`.
    fn at_least(self, least: f64) -> Self;

    /// Concatenates along the classes, \[n, classes + classes of the other\].
    fn beside(self, other: Self) -> Self;
}

/// Rows with the operations of divergences that are not sums over classes.
pub trait WholeRows: Rows {
    /// The mean over the positions, \[1, classes\].
    fn mean_of_positions(self) -> Self;

    /// √x.
    fn sqrt(self) -> Self;

    /// 1 / (1 + e^-x).
    fn sigmoid(self) -> Self;

    /// 1 where x > 0 and 0 elsewhere; no gradient flows through it.
    fn positive_mask(self) -> Self;

    /// x_i and x_j for every pair of classes i and j of a position, \[n · classes, classes\] each, with i the row and j
    /// the column.
    fn pairs(self) -> [Self; 2];

    /// Sums values of pairs over j, \[n, classes\].
    fn sum_of_pairs(self) -> Self;
}

/// A floating-point number.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Rounds to the nearest value of this type.
    fn of(x: f64) -> Self;
    /// e^x for x <= 0.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn ln(self) -> Self {
        f64::ln(self)
    }
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn exp(self) -> Self {
        exp_nonpositive(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
}

/// A value and its slope along one variable (a dual number).
#[derive(Clone, Copy, Debug)]
pub struct Dual<R> {
    /// The value.
    pub value: R,
    /// d value / d variable.
    pub slope: R,
}

impl<R: Real> Dual<R> {
    /// Creates a value that does not depend on the variable.
    #[inline(always)]
    pub fn constant(value: R) -> Self {
        Self { value, slope: R::of(0.0) }
    }

    /// Creates the variable itself.
    #[inline(always)]
    pub fn variable(value: R) -> Self {
        Self { value, slope: R::of(1.0) }
    }
}

impl<R: Real> Add for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

impl<R: Real> Sub for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, slope: self.slope - other.slope }
    }
}

impl<R: Real> Mul for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self { value: self.value * other.value, slope: self.slope * other.value + self.value * other.slope }
    }
}

impl<R: Real> Div for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        Self { value, slope: (self.slope - value * other.slope) / other.value }
    }
}

impl<R: Real> Neg for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self { value: -self.value, slope: -self.slope }
    }
}

impl<R: Real> Add<f64> for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn add(self, constant: f64) -> Self {
        Self { value: self.value + R::of(constant), ..self }
    }
}

impl<R: Real> Mul<f64> for Dual<R> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, constant: f64) -> Self {
        let constant = R::of(constant);
        Self { value: self.value * constant, slope: self.slope * constant }
    }
}

impl<R: Real> Number for Dual<R> {
    #[inline(always)]
    fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, slope: value * self.slope }
    }

    #[inline(always)]
    fn ln(self) -> Self {
        Self { value: self.value.ln(), slope: self.slope / self.value }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        let zero = R::of(0.0);
        let slope = if self.value == zero { zero } else { self.slope };
        if self.value < zero { Self { value: -self.value, slope: -slope } } else { Self { value: self.value, slope } }
    }

    #[inline(always)]
    fn weighted_by(self, weight: Self) -> Self {
        if weight.value > R::of(0.0) { weight * self } else { Self::constant(R::of(0.0)) }
    }

    #[inline(always)]
    fn log_mix(share: f64, a: Self, b: Self) -> Self {
        (a.exp() * share + b.exp() * (1.0 - share)).ln()
    }
}
