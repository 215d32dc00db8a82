//! Linear prediction of log_z and of each number of the tail from the entries of a position and from the numbers before
//! it, in integers, so that every machine predicts the same.

use super::summary::Entries;
use super::values::ValueCode;
use super::{MAX_ATOMS, PackError};

/// Number of features that come from the entries, and the constant.
const ENTRY_FEATURES: usize = 9;
/// Number of features of the last target, and of targets: log_z and two numbers of each atom.
const MAX_FEATURES: usize = ENTRY_FEATURES + 1 + 2 * MAX_ATOMS;
/// The constant feature, in units of 1/512 nat like all features: 8 nat.
const CONSTANT: i32 = 4096;
/// Bound of every feature and prediction.
pub(super) const BOUND: i32 = 65_535;
/// Fraction bits of a coefficient.
const FRACTION_BITS: u32 = 11;
/// What the fit adds to the sum of each feature's squares, in nats squared, so that few positions or equal features do
/// not give huge coefficients.
const RIDGE: f64 = 10.0;
/// Units of a feature per nat.
const PER_NAT: f64 = 512.0;

/// What is known of a position so far.
pub(super) struct Features {
    values: [i32; MAX_FEATURES],
    count: usize,
}

impl Features {
    /// The constant, and the distance from 0 of the entries at eight places.
    pub(super) fn new(entries: Entries<'_>, codes: ValueCode) -> Self {
        let last = entries.codes.len().saturating_sub(1);
        let places = [0, 1, 3, last / 8, last / 4, last / 2, 3 * last / 4, last];
        let mut features = Self { values: [0; MAX_FEATURES], count: 0 };
        features.push(CONSTANT);
        for place in places {
            features.push(entries.codes.get(place.min(last)).map_or(0, |&code| codes.distance(code)));
        }
        features
    }

    /// Adds the number that was predicted last.
    pub(super) fn push(&mut self, value: i32) {
        self.values[self.count] = value.clamp(-BOUND, BOUND);
        self.count += 1;
    }

    fn known(&self) -> &[i32] {
        &self.values[..self.count]
    }
}

/// The coefficients of all predictions: those of log_z, then of each atom's logit and log-weight, each for all features
/// before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Predictor(Vec<i16>);

impl Predictor {
    /// Number of coefficients.
    fn length(atoms: usize) -> usize {
        Self::start(1 + 2 * atoms)
    }

    /// Place of a target's first coefficient.
    fn start(target: usize) -> usize {
        target * ENTRY_FEATURES + target * target.saturating_sub(1) / 2
    }

    /// Predicts the next number after those that are known.
    pub(super) fn predict(&self, features: &Features) -> i32 {
        let known = features.known();
        let coefficients = &self.0[Self::start(known.len() - ENTRY_FEATURES)..];
        let products = coefficients.iter().zip(known).map(|(&c, &value)| i64::from(c) * i64::from(value));
        (products.sum::<i64>() >> FRACTION_BITS).clamp(i64::from(-BOUND), i64::from(BOUND)) as i32
    }

    /// The coefficients, little-endian.
    pub(super) fn to_bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|c| c.to_le_bytes())
    }

    /// Reads the coefficients; returns them and the rest of the bytes.
    pub(super) fn from_bytes(bytes: &[u8], atoms: usize) -> Result<(Self, &[u8]), PackError> {
        let (own, rest) = bytes.split_at_checked(2 * Self::length(atoms)).ok_or(PackError::CoefficientsCut)?;
        Ok((Self(own.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()), rest))
    }
}

/// Sums of products of all numbers of a position, from which the coefficients follow.
pub(super) struct PredictorFit {
    products: Vec<Vec<f64>>,
}

impl PredictorFit {
    /// Sums over no positions.
    pub(super) fn new(atoms: usize) -> Self {
        let size = ENTRY_FEATURES + 1 + 2 * atoms;
        Self { products: (1..=size).map(|length| vec![0.0; length]).collect() }
    }

    /// Adds a position whose numbers are all known.
    pub(super) fn add(&mut self, features: &Features) {
        let values = features.values.map(|value| f64::from(value) / PER_NAT);
        for (sums, &value) in self.products.iter_mut().zip(&values) {
            sums.iter_mut().zip(&values).for_each(|(sum, &other)| *sum += value * other);
        }
    }

    /// The coefficients with the least squared error. One Cholesky factor of the sums solves for all targets, as each
    /// is predicted from all numbers before it.
    pub(super) fn finish(mut self) -> Predictor {
        let mut coefficients = Vec::new();
        for row in 0..self.products.len() {
            self.products[row][row] += RIDGE;
            for column in 0..=row {
                let (before, here) = self.products.split_at_mut(row);
                let own = &mut here[0];
                let other = if column < row { &before[column] } else { &*own };
                let sum = own[column] - own.iter().zip(other).take(column).map(|(x, y)| x * y).sum::<f64>();
                own[column] = if column < row { sum / before[column][column] } else { sum.sqrt() };
            }
            if row >= ENTRY_FEATURES {
                coefficients.extend(self.solve(row));
            }
        }
        Predictor(coefficients)
    }

    /// The coefficients of the number `row`, given the factor up to it.
    fn solve(&self, row: usize) -> Vec<i16> {
        let mut solution = self.products[row][..row].to_vec();
        for at in (0..row).rev() {
            let known: f64 = (at + 1..row).map(|later| self.products[later][at] * solution[later]).sum();
            solution[at] = (solution[at] - known) / self.products[at][at];
        }
        solution.iter().map(|c| (c * f64::from(1 << FRACTION_BITS)).round() as i16).collect()
    }
}
