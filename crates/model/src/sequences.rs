//! The layout of sequences in a batch.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// How the sequences of a batch lie in its tokens, \[rows, width\]. Each attends to itself only, and its positions count
/// from its own start.
///
/// # Examples
/// ```
/// use logitcask_model::Sequences;
///
/// // Two sequences of up to three tokens, padded on the right, and the same two without padding.
/// let padded = Sequences::in_rows(2, 3);
/// let packed = Sequences::packed([3, 1]);
/// assert_eq!((padded.shape(), packed.shape()), ([2, 3], [1, 4]));
/// assert_eq!((padded.index_of(3), packed.index_of(3)), (1, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    shape: [usize; 2],
    /// End of each sequence in the flat tokens; a sequence starts where the previous one ends. None crosses a row's end.
    ends: Arc<[usize]>,
}

impl Sequences {
    /// One sequence in each row. Padding on its right counts as part of it: attention is causal, so padding does not
    /// affect what comes before it.
    pub fn in_rows(rows: usize, width: usize) -> Self {
        Self { shape: [rows, width], ends: (1..=rows).map(|row| row * width).collect() }
    }

    /// Sequences of these lengths one after the other in a single row, without padding.
    pub fn packed(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let ends: Arc<[usize]> = lengths.into_iter().map(|length| (end += length, end).1).collect();
        Self { shape: [1, end], ends }
    }

    /// \[rows, width\] of the tokens.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Number of sequences.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Number of tokens of the longest one.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The flat indices of each sequence's tokens, in order. Together they are all of the batch.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied()).map(|(start, end)| start..end)
    }

    /// Index of the sequence that contains the token at this flat index.
    pub fn index_of(&self, token: usize) -> usize {
        self.ends.partition_point(|&end| end <= token)
    }

    /// Whether every row is one sequence.
    pub(crate) fn are_rows(&self) -> bool {
        let [rows, width] = self.shape;
        self.count() == rows && self.ranges().all(|range| range.len() == width)
    }

    /// The position of every token in its sequence.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.ranges().flat_map(|range| 0..range.len())
    }

    /// For every query (third axis) and key (fourth axis) of a row, whether the query must not see the key, because it
    /// comes later, belongs to another sequence, or is not among the last `window` keys up to the query itself.
    /// \[rows, 1, width, width\].
    pub(crate) fn mask(&self, window: Option<usize>, device: &Device) -> Tensor<4, Bool> {
        let [rows, width] = self.shape;
        let mut hidden = vec![true; rows * width * width];
        for range in self.ranges() {
            let row = range.start / width.max(1);
            for query in range.clone() {
                let first = first_key(query - range.start, window) + range.start;
                let keys = first - row * width..=query - row * width;
                hidden[query * width..][..width][keys].fill(false);
            }
        }
        Tensor::from_data(TensorData::new(hidden, [rows, 1, width, width]), device)
    }
}

/// Position of the first key that the query at this position sees.
pub(crate) fn first_key(query: usize, window: Option<usize>) -> usize {
    window.map_or(0, |size| (query + 1).saturating_sub(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_its_own_sequence_up_to_itself() {
        let sequences = Sequences::packed([2, 1]);
        let mask: Vec<bool> = sequences.mask(None, &Device::flex()).into_data().iter::<bool>().collect();
        assert_eq!(mask, [false, true, true, false, false, true, true, true, false]);
        assert_eq!(sequences.positions().collect::<Vec<_>>(), [0, 1, 0]);
        assert!(!sequences.are_rows() && Sequences::in_rows(3, 2).are_rows());
    }
    #[test]
    fn a_window_holds_its_size_in_keys_the_query_among_them() {
        let seen = |size: usize| {
            let mask = Sequences::packed([3, 2]).mask(Some(size), &Device::flex());
            let seen: Vec<usize> = mask.into_data().iter::<bool>().map(|hidden| usize::from(!hidden)).collect();
            seen.chunks(5).map(|keys| keys.iter().sum()).collect::<Vec<usize>>()
        };
        assert_eq!(seen(1), [1, 1, 1, 1, 1]);
        assert_eq!(seen(2), [1, 2, 2, 1, 2]);
        assert_eq!(seen(9), [1, 2, 3, 1, 2]);
    }
}
