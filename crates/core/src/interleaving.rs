//! The order of samples from several sources in one run.

/// From which of several sources each sample of a run comes: always the one whose count is furthest below its share, and
/// the first of equals. Every source therefore stays near its share after any number of samples (within one sample if
/// there are two sources), and the order depends on the weights only.
#[derive(Clone, Debug)]
pub struct Interleaving {
    shares: Vec<f64>,
    taken: Vec<u64>,
    total: u64,
}

impl Interleaving {
    /// The seed of the order within the source of this number, so that sources of equal length have different orders.
    pub fn seed_of(seed: u64, source: u64) -> u64 {
        seed.wrapping_add(source << 48)
    }

    /// The order for sources with these weights, after the first `samples` samples.
    pub fn after(weights: &[f64], samples: u64) -> Self {
        let sum: f64 = weights.iter().sum();
        let shares = weights.iter().map(|weight| weight / sum).collect();
        let mut order = Self { shares, taken: vec![0; weights.len()], total: 0 };
        (0..samples).for_each(|_| _ = order.next_source());
        order
    }

    /// Index of the source of the next sample.
    pub fn next_source(&mut self) -> usize {
        self.total += 1;
        let behind = |source: usize| self.shares[source] * self.total as f64 - self.taken[source] as f64;
        let first = |best: usize, source: usize| if behind(source) > behind(best) { source } else { best };
        let source = (0..self.shares.len()).fold(0, first);
        self.taken[source] += 1;
        source
    }

    /// Number of samples taken from each source.
    pub fn taken(&self) -> &[u64] {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_source_stays_near_its_share_and_any_place_is_found_again(
            weights in prop::collection::vec(0.05..5.0f64, 1..5),
            place in 0..400u64,
        ) {
            let sum: f64 = weights.iter().sum();
            let mut order = Interleaving::after(&weights, 0);
            for total in 1..=place {
                order.next_source();
                for (weight, &taken) in weights.iter().zip(order.taken()) {
                    let off = taken as f64 - weight / sum * total as f64;
                    prop_assert!(off.abs() <= (weights.len() as f64 - 1.0).max(1e-9), "{off} after {total}");
                }
            }
            let mut again = Interleaving::after(&weights, place);
            prop_assert_eq!(again.taken(), order.taken());
            prop_assert_eq!((0..50).map(|_| again.next_source()).collect::<Vec<_>>(), (0..50).map(|_| order.next_source()).collect::<Vec<_>>());
        }
    }
}
