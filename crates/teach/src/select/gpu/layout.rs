//! Layout of a row's summary, and the size of the cube that computes it.

/// Units of a cube.
pub(super) const UNITS: usize = 256;

/// Words of the header, before the ids of the largest classes.
pub(super) const HEADER: usize = 4;
/// Header word: how many logits are not finite.
pub(super) const NON_FINITE: usize = 0;
/// Header word: the label's rank.
pub(super) const RANK: usize = 1;
/// Header word: bits of the label's logit.
pub(super) const GOLD: usize = 2;
/// Header word: bits of an upper bound of the logits in the sums. It is the smallest of the `count` largest logits, or
/// the largest logit of the padding if that is greater.
pub(super) const BOUND: usize = 3;
/// Counter in shared memory, after the two that share their index with a header word: how many of the largest classes
/// have been written.
pub(super) const WRITTEN: usize = 2;
/// Counter in shared memory: the smallest key of the padding, which belongs to its largest logit.
pub(super) const PADDING: usize = 3;
pub(super) const COUNTERS: usize = 4;
