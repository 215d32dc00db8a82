//! Samples of like length in one rectangle, so that little of a forward pass goes into padding.

use logitcask_core::Sample;

/// Some samples as one right-padded rectangle of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// Which samples, as indices into the slice given to [`batch_by_length`].
    pub indices: Vec<usize>,
    /// `[rows, width]`, row-major, 0 after a row's end.
    pub tokens: Vec<u32>,
    /// Tokens of each row before its padding.
    pub lengths: Vec<usize>,
    /// The longest row.
    pub width: usize,
}

/// Groups samples by length: sorts indices by length (ties by index) and packs consecutive ones into batches with
/// rows x width <= `token_budget`, or one row where a sample alone is over it.
///
/// Shortest first; which samples share a batch is a pure function of the lengths.
///
/// # Examples
/// ```
/// use logitcask_core::{Origin, Sample, SampleId};
/// use logitcask_data::batch_by_length;
///
/// let sample = |id, length| {
///     Sample { id: SampleId(id), origin: Origin { document: id, offset: 0 }, input_ids: vec![1; length] }
/// };
/// let batches = batch_by_length(&[sample(0, 3), sample(1, 2), sample(2, 5)], 6);
/// assert_eq!(batches[0].indices, [1, 0]);
/// assert_eq!(batches[0].tokens, [1, 1, 0, 1, 1, 1]);
/// assert_eq!(batches[1].indices, [2]);
/// ```
pub fn batch_by_length(samples: &[Sample], token_budget: usize) -> Vec<TokenBatch> {
    let length = |index: usize| samples[index].input_ids.len();
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&index| (length(index), index));

    let mut batches = vec![];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        // Ascending lengths: the last row of a candidate is its width.
        let fitting = rest.iter().enumerate().take_while(|&(row, &index)| (row + 1) * length(index) <= token_budget);
        let (batch, later) = rest.split_at(fitting.count().max(1));
        batches.push(pack(samples, batch));
        rest = later;
    }
    batches
}

/// The rectangle of the samples at `indices`.
fn pack(samples: &[Sample], indices: &[usize]) -> TokenBatch {
    let lengths: Vec<usize> = indices.iter().map(|&index| samples[index].input_ids.len()).collect();
    let width = lengths.iter().copied().max().unwrap_or(0);
    let mut tokens = vec![0; indices.len() * width];
    for (row, &index) in indices.iter().enumerate() {
        let start = row * width;
        tokens[start..start + lengths[row]].copy_from_slice(&samples[index].input_ids);
    }
    TokenBatch { indices: indices.to_vec(), tokens, lengths, width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::{Origin, SampleId};
    use proptest::prelude::*;

    fn samples(lengths: &[usize]) -> Vec<Sample> {
        let sample = |(i, &n): (usize, &usize)| Sample {
            id: SampleId(i as u64),
            origin: Origin { document: i as u64, offset: 0 },
            input_ids: (0..n).map(|token| (100 * i + token + 1) as u32).collect(),
        };
        lengths.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn rows_are_padded_on_the_right_with_zeros() {
        let batches = batch_by_length(&samples(&[3, 2, 5, 2]), 9);
        let indices: Vec<_> = batches.iter().map(|b| b.indices.clone()).collect();
        assert_eq!(indices, [vec![1, 3, 0], vec![2]]);
        assert_eq!(batches[0].tokens, [101, 102, 0, 301, 302, 0, 1, 2, 3]);
        assert_eq!((batches[0].width, batches[0].lengths.as_slice()), (3, &[2, 2, 3][..]));
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
                    let (own, padding) = batch.tokens[row * batch.width..][..batch.width].split_at(batch.lengths[row]);
                    prop_assert_eq!(own, &samples[index].input_ids[..]);
                    prop_assert!(padding.iter().all(|&token| token == 0));
                }
                // Nothing is left for a later batch that this one had room for.
                if let Some(next) = batches.get(at + 1) {
                    prop_assert!((rows + 1) * next.lengths[0] > budget);
                }
                seen.extend(batch.indices.iter().copied());
            }
            prop_assert!(seen.is_sorted_by_key(|&index| (lengths[index], index)));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
        }
    }
}
