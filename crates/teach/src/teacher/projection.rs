//! Random projections of hidden states.

use logitcask_core::rng::CounterRng;

/// A matrix \[hidden size, size\], row-major, of independent normal numbers of variance 1 / size: the product with it
/// keeps the length of a vector on average.
pub(super) fn random(hidden_size: usize, size: usize, seed: u64) -> Vec<f32> {
    let mut rng = CounterRng::new("logitcask random projection", &[seed, hidden_size as u64, size as u64]);
    let scale = (size as f64).sqrt().recip();
    (0..hidden_size * size).map(|_| (scale * rng.normal()) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_keeps_distances_approximately() {
        let (hidden_size, size) = (96, 512);
        let matrix = random(hidden_size, size, 7);
        let mut rng = CounterRng::new("projection test", &[]);
        for _ in 0..20 {
            let vector: Vec<f64> = (0..hidden_size).map(|_| rng.normal()).collect();
            let column =
                |j: usize| -> f64 { (0..hidden_size).map(|i| vector[i] * f64::from(matrix[i * size + j])).sum() };
            let before: f64 = vector.iter().map(|x| x * x).sum();
            let after: f64 = (0..size).map(|j| column(j).powi(2)).sum();
            // A sum of 512 squares of normal numbers has a relative deviation of 1/16.
            assert!((after / before - 1.0).abs() < 4.0 / 16.0, "{before} {after}");
        }
        assert_ne!(matrix, random(hidden_size, size, 8));
    }
}
