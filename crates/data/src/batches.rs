//! Batches of samples of similar length, so that little of a forward pass is spent on padding where a device needs it.

use logitcask_core::Sample;

/// Samples that a teacher sees together, and the positions at which it is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// The samples.
    pub samples: Vec<Sample>,
    /// Index of each sample in the slice passed to [`batch_by_length`].
    pub indices: Vec<usize>,
    /// The positions to evaluate, sample by sample: the index of the sample in [`samples`](Self::samples), and the index
    /// of the position in the sample.
    pub positions: Vec<(usize, usize)>,
    /// The next token of each position.
    pub labels: Vec<u32>,
}

impl TokenBatch {
    /// The samples at `indices`, with all their positions.
    fn of(samples: &[Sample], indices: &[usize]) -> Self {
        let samples: Vec<Sample> = indices.iter().map(|&index| samples[index].clone()).collect();
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for (index, sample) in samples.iter().enumerate() {
            positions.extend(sample.position_indices().map(|position| (index, position)));
            labels.extend_from_slice(&sample.labels());
        }
        Self { samples, indices: indices.to_vec(), positions, labels }
    }
}

/// Groups samples by length: sorts indices by length (ties by index) and divides them into batches in which the number of
/// samples times the length of the longest is at most `token_budget`. A sample that alone exceeds it is a batch of its own.
///
/// Batches are ordered by length, shortest first; which samples share a batch is a pure function of the lengths.
///
/// # Examples
/// ```
/// use logitcask_core::{Origin, Sample, SampleId};
/// use logitcask_data::batch_by_length;
///
/// let sample = |id, length| {
///     Sample::new(SampleId(id), Origin { document: id, offset: 0 }, vec![1; length])
/// };
/// let batches = batch_by_length(&[sample(0, 3), sample(1, 2), sample(2, 5)], 6);
/// assert_eq!(batches[0].indices, [1, 0]);
/// assert_eq!(batches[0].positions, [(0, 0), (1, 0), (1, 1)]);
/// assert_eq!(batches[1].indices, [2]);
/// ```
pub fn batch_by_length(samples: &[Sample], token_budget: usize) -> Vec<TokenBatch> {
    let length = |index: usize| samples[index].input_ids.len();
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&index| (length(index), index));

    let mut batches = vec![];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        // Lengths ascend, so the last sample of a candidate is its longest.
        let fitting =
            rest.iter().enumerate().take_while(|&(before, &index)| (before + 1) * length(index) <= token_budget);
        let (batch, later) = rest.split_at(fitting.count().max(1));
        batches.push(TokenBatch::of(samples, batch));
        rest = later;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::{Origin, SampleId};
    use proptest::prelude::*;

    fn samples(lengths: &[usize]) -> Vec<Sample> {
        let sample = |(i, &n): (usize, &usize)| {
            let tokens = (0..n).map(|token| (100 * i + token + 1) as u32).collect();
            Sample::new(SampleId(i as u64), Origin { document: i as u64, offset: 0 }, tokens)
        };
        lengths.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn positions_are_those_with_a_next_token_which_is_their_label() {
        let samples = samples(&[3, 2, 5, 2]);
        let batches = batch_by_length(&samples, 9);
        let indices: Vec<_> = batches.iter().map(|b| b.indices.clone()).collect();
        assert_eq!(indices, [vec![1, 3, 0], vec![2]]);
        let batch = &batches[0];
        assert_eq!(batch.samples, [1, 3, 0].map(|index: usize| samples[index].clone()));
        assert_eq!(batch.positions, [(0, 0), (1, 0), (2, 0), (2, 1)]);
        assert_eq!(batch.labels, [102, 302, 2, 3]);
        assert_eq!(
            batch.positions.iter().map(|&(sample, at)| batch.samples[sample].input_ids[at]).collect::<Vec<_>>(),
            [101, 301, 1, 2]
        );
    }

    proptest! {
        #[test]
        fn every_sample_once_and_within_the_budget(
            lengths in proptest::collection::vec(2usize..30, 0..60),
            budget in 1usize..120,
        ) {
            let samples = samples(&lengths);
            let batches = batch_by_length(&samples, budget);
            let mut seen = vec![];
            for (at, batch) in batches.iter().enumerate() {
                let count = batch.indices.len();
                let longest = batch.indices.iter().map(|&index| lengths[index]).max().unwrap_or(0);
                prop_assert!(count == 1 || count * longest <= budget);
                for (sample, &index) in batch.samples.iter().zip(&batch.indices) {
                    prop_assert_eq!(sample, &samples[index]);
                }
                // Nothing is left for a later batch that this one had room for.
                if let Some(next) = batches.get(at + 1) {
                    prop_assert!((count + 1) * lengths[next.indices[0]] > budget);
                }
                seen.extend(batch.indices.iter().copied());
            }
            prop_assert!(seen.is_sorted_by_key(|&index| (lengths[index], index)));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
        }
    }
}
