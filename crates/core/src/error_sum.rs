//! Sums of approximation errors that depend neither on order nor on grouping.

use crate::Truncation;

/// Errors are counted in billionths: sums of integers do not depend on the order in which threads finish.
const PER_UNIT: f64 = 1e9;

/// Maximum and mean of absolute errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorSum {
    worst: u64,
    sum: u128,
    count: u64,
}

impl ErrorSum {
    /// Adds one error; NaN counts as the largest representable error.
    #[inline]
    pub fn add(&mut self, error: f64) {
        // Rounds to the nearest integer without a function call. `min` of NaN and infinity is infinity.
        let error = (error.abs() * PER_UNIT + 0.5).min(f64::INFINITY) as u64;
        self.worst = self.worst.max(error);
        self.sum += u128::from(error);
        self.count += 1;
    }

    /// Adds all errors of another sum.
    pub fn merge(&mut self, other: &Self) {
        self.worst = self.worst.max(other.worst);
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The largest error, or 0 if there were none.
    pub fn worst(&self) -> f64 {
        self.worst as f64 / PER_UNIT
    }

    /// The mean error, rounded to billionths, or 0 if there were none.
    pub fn mean(&self) -> f64 {
        (self.sum as f64 / self.count.max(1) as f64).round() / PER_UNIT
    }
}

/// Measured approximation errors of written rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowErrors {
    /// |log Z as a reader gets it - log Z of the full row| at each inverse temperature of [`crate::TailRule::grid`].
    pub log_z: Vec<ErrorSum>,
    /// |log-probability as written - exact log-probability| of each kept class.
    pub codec: ErrorSum,
}

impl RowErrors {
    /// Creates an empty sum for rows of the truncation `keep`.
    pub fn new(keep: &Truncation) -> Self {
        let points = keep.tail.map_or(0, |tail| tail.grid().len());
        Self { log_z: vec![ErrorSum::default(); points], codec: ErrorSum::default() }
    }

    /// Adds all errors of another sum, which must come from the same truncation.
    pub fn merge(&mut self, other: &Self) {
        self.log_z.iter_mut().zip(&other.log_z).for_each(|(mine, theirs)| mine.merge(theirs));
        self.codec.merge(&other.codec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_the_worst_error_and_not_none() {
        for error in [f64::NAN, -f64::NAN, f64::INFINITY] {
            let mut sum = ErrorSum::default();
            sum.add(1e-3);
            sum.add(error);
            assert!(sum.worst() > 1e9 && sum.mean() > 1e9, "{error}: {sum:?}");
        }
    }

    #[test]
    fn order_and_grouping_do_not_matter() {
        let errors: Vec<f64> = (1..1000).map(|i| 1.0 / f64::from(i)).collect();
        let sum = |values: &mut dyn Iterator<Item = f64>| {
            let mut sum = ErrorSum::default();
            values.for_each(|e| sum.add(e));
            sum
        };
        let forward = sum(&mut errors.iter().copied());
        let (a, b) = errors.split_at(333);
        let mut halves = sum(&mut b.iter().rev().copied());
        halves.merge(&sum(&mut a.iter().map(|e| -e)));
        assert_eq!(forward, halves);
        assert_eq!(forward.worst(), 1.0);
        assert!((forward.mean() - errors.iter().sum::<f64>() / 999.0).abs() < 1e-9);
        assert_eq!(ErrorSum::default().mean(), 0.0);
    }
}
