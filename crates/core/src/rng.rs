//! Counter-based random numbers that depend on names and counters alone, never on threads, batches or earlier draws.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A generator for one purpose: the same `purpose` and `keys` give the same stream on every machine.
///
/// Keys identify what the draw belongs to, outermost first: a run's seed, then an epoch, a sample, a position.
///
/// # Examples
/// ```
/// use logitcask_core::rng::CounterRng;
///
/// let draw = |seed| CounterRng::new("example", &[seed]).uniform();
/// assert_eq!(draw(7), draw(7));
/// assert_ne!(draw(7), draw(8));
/// ```
#[derive(Clone, Debug)]
pub struct CounterRng(ChaCha8Rng);

impl CounterRng {
    /// The stream of `purpose` (a constant string) under `keys`.
    pub fn new(purpose: &'static str, keys: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        for key in keys {
            hasher.update(&key.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (the first value of the Box-Muller transform; the second is discarded, so that a draw does not
    /// depend on earlier ones).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..`n`, with a modulo bias of at most 2^-64.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below(0) has no answer");
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Shuffles in place (Fisher-Yates, from the back).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_never_change() {
        // Shuffles, initial weights and generated corpora hang on these numbers.
        let mut rng = CounterRng::new("test", &[1, 2]);
        let first: Vec<u64> = (0..4).map(|_| rng.below(1_000_000)).collect();
        let mut again = CounterRng::new("test", &[1, 2]);
        assert_eq!(first, (0..4).map(|_| again.below(1_000_000)).collect::<Vec<_>>());
        assert_eq!(first, STREAM);
        let mut other = CounterRng::new("test", &[2, 1]);
        assert_ne!(first[0], other.below(1_000_000));
    }
    const STREAM: [u64; 4] = [286_207, 632_384, 923_156, 947_996];

    #[test]
    fn normal_has_unit_variance() {
        let mut rng = CounterRng::new("test", &[7]);
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Five standard errors of each estimate.
        assert!(mean.abs() < 5.0 / (draws.len() as f64).sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / draws.len() as f64).sqrt(), "{variance}");
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        CounterRng::new("test", &[3]).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
