//! Small f32 rows in memory, as the number type with which [`logitcask_core::divergence`] applies a temperature.

use crate::loss::lanes::log_sum_exp;
use logitcask_core::divergence::{Number, Rows};
use logitcask_core::exp::exp_nonpositive;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// \[n, columns\] in row-major order.
///
/// Exponentials are computed in plain `for` loops: a closure may be compiled apart from the code that was dispatched to
/// vector instructions, and each multiply-add in it then becomes a function call.
#[derive(Clone, Debug)]
pub(super) struct Floats {
    columns: usize,
    values: Vec<f32>,
}

impl Floats {
    /// # Panics
    /// If there are no columns.
    #[inline(always)]
    pub(super) fn new(columns: usize, values: Vec<f32>) -> Self {
        assert!(columns > 0, "a row without a number");
        Self { columns, values }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    #[inline(always)]
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for x in &mut self.values {
            *x = f(*x);
        }
        self
    }

    /// Applies f(a, b) to each pair; a single column is broadcast to the other side's columns.
    #[inline(always)]
    fn zip(mut self, mut other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        if other.columns == self.columns {
            for (a, b) in self.values.iter_mut().zip(&other.values) {
                *a = f(*a, *b);
            }
            return self;
        }
        if self.columns == 1 {
            for (row, a) in other.values.chunks_exact_mut(other.columns).zip(&self.values) {
                for b in row {
                    *b = f(*a, *b);
                }
            }
            return other;
        }
        assert_eq!(other.columns, 1, "numbers of different shapes");
        for (row, b) in self.values.chunks_exact_mut(self.columns).zip(&other.values) {
            for a in row {
                *a = f(*a, *b);
            }
        }
        self
    }
}

impl Add for Floats {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl Sub for Floats {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl Mul for Floats {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

impl Div for Floats {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
}

impl Neg for Floats {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        self.map(|x| -x)
    }
}

impl Add<f64> for Floats {
    type Output = Self;

    #[inline(always)]
    fn add(self, constant: f64) -> Self {
        self.map(|x| x + constant as f32)
    }
}

impl Mul<f64> for Floats {
    type Output = Self;

    #[inline(always)]
    fn mul(self, constant: f64) -> Self {
        self.map(|x| x * constant as f32)
    }
}

impl Number for Floats {
    #[inline(always)]
    fn exp(mut self) -> Self {
        for x in &mut self.values {
            *x = exp_nonpositive(*x);
        }
        self
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.map(f32::ln)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn weighted_by(self, weight: Self) -> Self {
        self.zip(weight, |x, weight| if weight > 0.0 { weight * x } else { 0.0 })
    }

    #[inline(always)]
    fn log_mix(share: f64, a: Self, b: Self) -> Self {
        let [first, second] = [share as f32, (1.0 - share) as f32];
        a.zip(b, |a, b| (first * exp_nonpositive(a) + second * exp_nonpositive(b)).ln())
    }
}

impl Rows for Floats {
    #[inline(always)]
    fn sum(self) -> Self {
        Self { columns: 1, values: self.values.chunks_exact(self.columns).map(|row| row.iter().sum()).collect() }
    }

    #[inline(always)]
    fn log_sum_exp(self) -> Self {
        let mut values = Vec::with_capacity(self.values.len() / self.columns);
        for row in self.values.chunks_exact(self.columns) {
            values.push(log_sum_exp(row));
        }
        Self { columns: 1, values }
    }

    #[inline(always)]
    fn at_least(self, least: f64) -> Self {
        self.map(|x| x.max(least as f32))
    }

    #[inline(always)]
    fn beside(self, other: Self) -> Self {
        let rows = self.values.chunks_exact(self.columns).zip(other.values.chunks_exact(other.columns));
        let mut values = Vec::with_capacity(self.values.len() + other.values.len());
        for (a, b) in rows {
            values.extend_from_slice(a);
            values.extend_from_slice(b);
        }
        Self { columns: self.columns + other.columns, values }
    }
}
