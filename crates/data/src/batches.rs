//! Batches of samples of similar length, so that little of a forward pass is spent on padding.

use logitcask_core::Sample;

/// Samples as one right-padded rectangle of tokens, and the positions at which a teacher is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// The samples, one per row.
    pub samples: Vec<Sample>,
    /// Index of each sample in the slice passed to [`batch_by_length`].
    pub indices: Vec<usize>,
    /// `[rows, width]`, row-major, padded with 0.
    pub tokens: Vec<u32>,
    /// Length of the longest row.
    pub width: usize,
    /// The positions to evaluate, as flat indices into `[rows, width]`: row by row, those of each sample.
    pub positions: Vec<usize>,
    /// The next token of each position.
    pub labels: Vec<u32>,
}

impl TokenBatch {
    /// The row of one of [`positions`](Self::positions), and its index in that row.
    pub fn place(&self, position: usize) -> (usize, usize) {
        let flat = self.positions[position];
        (flat / self.width, flat % self.width)
    }
}

/// Groups samples by length: sorts indices by length (ties by index) and packs consecutive ones into batches with rows
/// x width <= `token_budget`, or a single row if a sample alone exceeds it.
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
/// assert_eq!(batches[0].tokens, [1, 1, 0, 1, 1, 1]);
/// assert_eq!(batches[0].positions, [0, 3, 4]);
/// assert_eq!(batches[0].place(2), (1, 1));
/// assert_eq!(batches[1].indices, [2]);
/// ```
pub fn batch_by_length(samples: &[Sample], token_budget: usize) -> Vec<TokenBatch> {
    let length = |index: usize| samples[index].input_ids.len();
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&index| (length(index), index));

    let mut batches = vec![];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        // Lengths ascend, so the last row of a candidate has its width.
        let fitting = rest.iter().enumerate().take_while(|&(row, &index)| (row + 1) * length(index) <= token_budget);
        let (batch, later) = rest.split_at(fitting.count().max(1));
        batches.push(pack(samples, batch));
        rest = later;
    }
    batches
}

/// Lays out the samples at `indices` as a rectangle.
fn pack(samples: &[Sample], indices: &[usize]) -> TokenBatch {
    let samples: Vec<Sample> = indices.iter().map(|&index| samples[index].clone()).collect();
    let width = samples.iter().map(|sample| sample.input_ids.len()).max().unwrap_or(0);
    let mut tokens = vec![0; samples.len() * width];
    let (mut positions, mut labels) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    for (row, sample) in samples.iter().enumerate() {
        let start = row * width;
        tokens[start..start + sample.input_ids.len()].copy_from_slice(&sample.input_ids);
        positions.extend(sample.position_indices().map(|position| start + position));
        labels.extend_from_slice(&sample.labels());
    }
    TokenBatch { samples, indices: indices.to_vec(), tokens, width, positions, labels }
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
    fn rows_are_padded_on_the_right_with_zeros() {
        let batches = batch_by_length(&samples(&[3, 2, 5, 2]), 9);
        let indices: Vec<_> = batches.iter().map(|b| b.indices.clone()).collect();
        assert_eq!(indices, [vec![1, 3, 0], vec![2]]);
        assert_eq!(batches[0].tokens, [101, 102, 0, 301, 302, 0, 1, 2, 3]);
        assert_eq!(batches[0].width, 3);
    }

    #[test]
    fn positions_are_those_with_a_next_token_which_is_their_label() {
        let batch = &batch_by_length(&samples(&[3, 2]), 9)[0];
        assert_eq!((&batch.positions[..], &batch.labels[..]), (&[0, 3, 4][..], &[102, 2, 3][..]));
        assert_eq!([0, 1, 2].map(|position| batch.place(position)), [(0, 0), (1, 0), (1, 1)]);
        assert_eq!(batch.samples[0].input_ids, [101, 102]);
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
                let rows = batch.indices.len();
                prop_assert!(rows == 1 || rows * batch.width <= budget);
                prop_assert_eq!(batch.tokens.len(), rows * batch.width);
                for (row, &index) in batch.indices.iter().enumerate() {
                    let (own, padding) = batch.tokens[row * batch.width..][..batch.width].split_at(lengths[index]);
                    prop_assert_eq!(own, &samples[index].input_ids[..]);
                    prop_assert_eq!(&batch.samples[row], &samples[index]);
                    prop_assert!(padding.iter().all(|&token| token == 0));
                }
                // Nothing is left for a later batch that this one had room for.
                if let Some(next) = batches.get(at + 1) {
                    prop_assert!((rows + 1) * lengths[next.indices[0]] > budget);
                }
                seen.extend(batch.indices.iter().copied());
            }
            prop_assert!(seen.is_sorted_by_key(|&index| (lengths[index], index)));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
        }
    }
}
