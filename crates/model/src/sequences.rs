//! The layout of sequences in a batch.

use crate::memory::are_on_host;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

/// How the sequences of a batch lie in its tokens, \[rows, width\]. Each attends to itself only, and its positions count
/// from its own start.
///
/// # Examples
/// ```
/// use logitcask_model::{Packing, Sequences};
///
/// // Three sequences of up to 60 tokens, padded on the right; without padding; and in as few rows as they need.
/// let lengths = [30, 60, 10];
/// let padded = Sequences::in_rows(3, 60);
/// let packed = Sequences::packed(lengths, Packing::OneRow);
/// let filled = Sequences::packed(lengths, Packing::FilledRows);
/// assert_eq!([&padded, &packed, &filled].map(Sequences::shape), [[3, 60], [1, 100], [2, 60]]);
/// assert_eq!(padded.starts(), [0, 60, 120]);
/// assert_eq!(packed.starts(), [0, 30, 90]);
/// assert_eq!(filled.starts(), [60, 0, 90]);
/// assert_eq!(filled.index_of(89), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    shape: [usize; 2],
    /// End of each sequence in the flat tokens, behind its padding; a sequence starts where the previous one ends. None
    /// crosses a row's end.
    ends: Arc<[usize]>,
    /// Number of tokens of each of them without padding, which only [`packed`](Self::packed) is told.
    lengths: Arc<[usize]>,
    /// Index of each of them in the order in which they were given.
    order: Arc<[usize]>,
}

/// A way to lay out sequences with little padding or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One after the other in a single row. That is fastest where attention goes through the sequences one by one.
    OneRow,
    /// In rows about as wide as the longest, each of which has as many sequences as fit, for attention that computes all
    /// pairs of a row's tokens. Where that saves less than a quarter of the rows, each sequence has a row of its own,
    /// without a mask.
    FilledRows,
}

/// Width of rows for sequences of up to so many tokens: at most an eighth more, so that there are few widths, for each of
/// which a device compiles and tunes its kernels.
fn row_width(longest: usize) -> usize {
    let step = 1 << (longest / 8).max(1).ilog2();
    longest.next_multiple_of(step.min(32))
}

impl Packing {
    /// The one with which a model computes fastest in `dtype` on `device`.
    pub fn fastest(device: &Device, dtype: DType) -> Self {
        if are_on_host(device, dtype) { Self::OneRow } else { Self::FilledRows }
    }
}

impl Sequences {
    /// One sequence in each row. Padding on its right counts as part of it: attention is causal, so padding does not
    /// affect what comes before it.
    pub fn in_rows(rows: usize, width: usize) -> Self {
        Self::one_in_each_row(vec![width; rows], width)
    }

    fn one_in_each_row(lengths: Vec<usize>, width: usize) -> Self {
        let rows = lengths.len();
        let ends = (1..=rows).map(|row| row * width).collect();
        Self { shape: [rows, width], ends, lengths: lengths.into(), order: (0..rows).collect() }
    }

    /// Sequences of these lengths, packed.
    pub fn packed(lengths: impl IntoIterator<Item = usize>, packing: Packing) -> Self {
        let lengths: Vec<usize> = lengths.into_iter().collect();
        match packing {
            Packing::OneRow => {
                let mut end = 0;
                let ends: Arc<[usize]> = lengths.iter().map(|length| (end += length, end).1).collect();
                Self { shape: [1, end], ends, order: (0..lengths.len()).collect(), lengths: lengths.into() }
            }
            Packing::FilledRows => {
                let width = row_width(lengths.iter().copied().max().unwrap_or(0));
                let rows = filled_rows(&lengths, width);
                match 4 * rows.len() > 3 * lengths.len() {
                    true => Self::one_in_each_row(lengths, width),
                    false => Self::rows_of(&rows, &lengths, width),
                }
            }
        }
    }

    /// Rows of sequences of these lengths. Padding at a row's end counts as part of its last sequence.
    fn rows_of(rows: &[Vec<usize>], lengths: &[usize], width: usize) -> Self {
        let mut ends = Vec::with_capacity(lengths.len());
        for (row, sequences) in rows.iter().enumerate() {
            let mut end = row * width;
            ends.extend(sequences.iter().map(|&sequence| (end += lengths[sequence], end).1));
            if let Some(last) = ends.last_mut() {
                *last = (row + 1) * width;
            }
        }
        let order = rows.concat();
        let lengths = order.iter().map(|&sequence| lengths[sequence]).collect();
        Self { shape: [rows.len(), width], ends: ends.into(), lengths, order: order.into() }
    }

    /// \[rows, width\] of the tokens.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Number of sequences.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Number of tokens of the longest one, with its padding.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The flat indices of the tokens of each sequence, in the order in which they lie. Together they are all of the
    /// batch.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied()).map(|(start, end)| start..end)
    }

    /// The flat index of the first token of each sequence, in the order in which they were given.
    pub fn starts(&self) -> Vec<usize> {
        let mut starts = vec![0; self.count()];
        self.ranges().zip(&*self.order).for_each(|(range, &index)| starts[index] = range.start);
        starts
    }

    /// Index of the sequence that contains the token at this flat index, in the order in which they were given.
    pub fn index_of(&self, token: usize) -> usize {
        self.order[self.ends.partition_point(|&end| end <= token)]
    }

    /// The flat tokens of these sequences, in the order in which their lengths were given; 0 where there is padding.
    pub fn tokens<'a>(&self, sequences: impl IntoIterator<Item = &'a [u32]>) -> Vec<u32> {
        let mut tokens = vec![0; self.shape.iter().product()];
        for (sequence, start) in sequences.into_iter().zip(self.starts()) {
            tokens[start..start + sequence.len()].copy_from_slice(sequence);
        }
        tokens
    }

    /// [`tokens`](Self::tokens) as the input of a model, \[rows, width\].
    pub fn token_tensor<'a>(&self, sequences: impl IntoIterator<Item = &'a [u32]>, device: &Device) -> Tensor<2, Int> {
        let tokens: Vec<i64> = self.tokens(sequences).into_iter().map(i64::from).collect();
        Tensor::from_data(TensorData::new(tokens, self.shape), device)
    }

    /// Whether every row is one sequence.
    pub(crate) fn are_rows(&self) -> bool {
        let [rows, width] = self.shape;
        self.count() == rows && self.ranges().all(|range| range.len() == width)
    }

    /// The position of every token in its sequence; 0 where there is padding that is known, so that no position is beyond
    /// those of a model.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        let of = |(range, &length): (Range<usize>, &usize)| {
            (0..range.len()).map(move |position| if position < length { position } else { 0 })
        };
        self.ranges().zip(&*self.lengths).flat_map(of)
    }

    /// The same of a row's tokens, where every row is one sequence.
    pub(crate) fn positions_of_rows(&self) -> impl Iterator<Item = usize> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        (0..self.shape[1]).map(move |position| if position < longest { position } else { 0 })
    }

    /// For every query (third axis) and key (fourth axis) of a row, whether the query must not see the key, because it
    /// comes later, belongs to another sequence, or is not among the last `window` keys up to the query itself.
    /// \[rows, 1, width, width\].
    pub(crate) fn mask(&self, window: Option<usize>, device: &Device) -> Tensor<4, Bool> {
        let [rows, width] = self.shape;
        let int =
            |values: Vec<i64>, shape: [usize; 4]| Tensor::<4, Int>::from_data(TensorData::new(values, shape), device);
        // The first key of each query: so the device computes the pairs, which would be many to send there.
        let places = (0..width).cycle().zip(self.positions());
        let firsts = places.map(|(place, position)| (place - position + first_key(position, window)) as i64);
        let firsts = int(firsts.collect(), [rows, 1, width, 1]);
        let places = || (0..width as i64).collect();
        let (keys, queries) = (int(places(), [1, 1, 1, width]), int(places(), [1, 1, width, 1]));
        let all = [rows, 1, width, width];
        let keys = keys.expand(all);
        keys.clone().lower(firsts.expand(all)).bool_or(keys.greater(queries.expand(all)))
    }
}

/// Divides sequences of these lengths among rows of this width: the longest ones first, each into the first row that has
/// room.
fn filled_rows(lengths: &[usize], width: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&sequence| Reverse(lengths[sequence]));
    let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
    for sequence in order {
        let length = lengths[sequence];
        match rows.iter_mut().find(|(room, _)| *room >= length) {
            Some((room, row)) => {
                *room -= length;
                row.push(sequence);
            }
            None => rows.push((width - length, vec![sequence])),
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Position of the first key that the query at this position sees.
pub(crate) fn first_key(query: usize, window: Option<usize>) -> usize {
    window.map_or(0, |size| (query + 1).saturating_sub(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_sees_its_own_sequence_up_to_itself() {
        let sequences = Sequences::packed([2, 1], Packing::OneRow);
        let mask: Vec<bool> = sequences.mask(None, &Device::flex()).into_data().iter::<bool>().collect();
        assert_eq!(mask, [false, true, true, false, false, true, true, true, false]);
        assert_eq!(sequences.positions().collect::<Vec<_>>(), [0, 1, 0]);
        assert!(!sequences.are_rows() && Sequences::in_rows(3, 2).are_rows());
    }

    #[test]
    fn a_window_holds_its_size_in_keys_the_query_among_them() {
        let seen = |size: usize| {
            let mask = Sequences::packed([3, 2], Packing::OneRow).mask(Some(size), &Device::flex());
            let seen: Vec<usize> = mask.into_data().iter::<bool>().map(|hidden| usize::from(!hidden)).collect();
            seen.chunks(5).map(|keys| keys.iter().sum()).collect::<Vec<usize>>()
        };
        assert_eq!(seen(1), [1, 1, 1, 1, 1]);
        assert_eq!(seen(2), [1, 2, 2, 1, 2]);
        assert_eq!(seen(9), [1, 2, 3, 1, 2]);
    }

    #[test]
    fn rows_are_filled_only_where_that_saves_a_quarter_of_them() {
        let shape = |lengths: &[usize]| Sequences::packed(lengths.iter().copied(), Packing::FilledRows).shape();
        assert_eq!(shape(&[30, 8, 31, 24]), [3, 32]);
        assert_eq!(shape(&[30, 16, 31, 24, 30]), [5, 32]);
        assert_eq!((shape(&[]), shape(&[7])), ([0, 0], [1, 7]));
    }

    proptest! {
        #[test]
        fn every_token_of_every_sequence_is_where_it_is_looked_for(
            lengths in proptest::collection::vec(1usize..40, 1..12),
            packing in prop_oneof![Just(Packing::OneRow), Just(Packing::FilledRows)],
        ) {
            let texts: Vec<Vec<u32>> =
                lengths.iter().enumerate().map(|(text, &length)| vec![text as u32 + 1; length]).collect();
            let sequences = Sequences::packed(lengths.iter().copied(), packing);
            let tokens = sequences.tokens(texts.iter().map(Vec::as_slice));
            let [rows, width] = sequences.shape();
            prop_assert_eq!(tokens.len(), rows * width);
            prop_assert_eq!(tokens.iter().filter(|&&token| token > 0).count(), lengths.iter().sum::<usize>());
            prop_assert!(sequences.longest() <= width);
            prop_assert_eq!(sequences.ranges().map(|range| range.len()).sum::<usize>(), tokens.len());
            let longest = lengths.iter().copied().max().unwrap_or(0);
            let positions: Vec<usize> = sequences.positions().collect();
            prop_assert!(positions.iter().all(|&position| position < longest));
            let of_rows: Vec<usize> = sequences.positions_of_rows().collect();
            prop_assert!(of_rows.iter().all(|&position| position < longest) || !sequences.are_rows());
            let mask: Vec<bool> = sequences.mask(None, &Device::flex()).into_data().iter::<bool>().collect();
            for (text, (start, &length)) in sequences.starts().into_iter().zip(&lengths).enumerate() {
                prop_assert!(start / width == (start + length - 1) / width, "it crosses the end of a row");
                for token in start..start + length {
                    prop_assert_eq!(tokens[token], text as u32 + 1);
                    prop_assert_eq!(sequences.index_of(token), text);
                    prop_assert_eq!(positions[token], token - start);
                    prop_assert!(!sequences.are_rows() || of_rows[token % width] == token - start);
                    let seen = (0..width).filter(|key| !mask[token * width + key]);
                    prop_assert!(seen.eq(start % width..=token % width), "{}", token);
                }
            }
        }
    }
}
