//! Means over positions with their standard errors.

/// A number with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error; NaN if there is only one sample.
    pub error: f64,
}

/// Mean over the positions of several samples. The standard error takes each sample as one observation, because the
/// positions of a text depend on each other: for sample sums s, numbers of positions n, G samples and the mean m it is
/// sqrt(G / (G - 1) · Σ (s - m n)²) / Σ n, the linearised error of a ratio.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterMean {
    samples: u64,
    /// Σ s, Σ n, Σ s², Σ s n and Σ n².
    sum: f64,
    count: f64,
    sum_squares: f64,
    products: f64,
    count_squares: f64,
}

impl ClusterMean {
    /// Adds a sample of `count` positions whose values add up to `sum`.
    pub(super) fn add(&mut self, sum: f64, count: u64) {
        let n = count as f64;
        self.samples += 1;
        self.sum += sum;
        self.count += n;
        self.sum_squares += sum * sum;
        self.products += sum * n;
        self.count_squares += n * n;
    }

    /// The mean over all positions.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The mean over all positions and its standard error.
    pub(super) fn estimate(&self) -> Estimate {
        let (mean, samples) = (self.mean(), self.samples as f64);
        if self.samples < 2 {
            return Estimate { value: mean, error: f64::NAN };
        }
        let squares = self.sum_squares - 2.0 * mean * self.products + mean * mean * self.count_squares;
        Estimate { value: mean, error: (samples / (samples - 1.0) * squares.max(0.0)).sqrt() / self.count }
    }
}
