//! One input of a dataset, and the hash that ties every later row to it.

use std::borrow::Cow;
use std::fmt;

/// Index of a sample in its dataset's fixed order, counted from 0 within its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(pub u64);

/// Where a sample was cut from; it tells apart different ways of cutting the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the document in its source, over all splits.
    pub document: u64,
    /// Index of the window's first new token in the tokenised document.
    pub offset: u32,
}

/// The positions of a sample at which the teacher is evaluated and students learn.
///
/// A position is an index into the tokens. Its label is the next token, so there is no position at the last token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// Every position that has a next token.
    #[default]
    All,
    /// These positions, in ascending order.
    Chosen(Vec<u32>),
}

/// A window of tokens: exactly what the teacher saw and what a student will see.
///
/// # Examples
/// ```
/// use logitcask_core::{Origin, Positions, Sample, SampleId};
///
/// let mut sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, vec![5, 8, 13]);
/// assert_eq!(sample.position_count(), 2);
/// assert_eq!(*sample.labels(), [8, 13]);
///
/// sample.positions = Positions::Chosen(vec![1]);
/// assert_eq!(sample.position_count(), 1);
/// assert_eq!(*sample.labels(), [13]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its index in the dataset.
    pub id: SampleId,
    /// Where it was cut from.
    pub origin: Origin,
    /// At least two tokens; `L` tokens have `L - 1` next tokens.
    pub input_ids: Vec<u32>,
    /// Where the teacher is evaluated.
    pub positions: Positions,
}

impl Sample {
    /// A sample of which every position is used.
    pub fn new(id: SampleId, origin: Origin, input_ids: Vec<u32>) -> Self {
        Self { id, origin, input_ids, positions: Positions::All }
    }

    /// Hash of the tokens, see [`InputHash::of`]. It does not depend on the positions.
    pub fn input_hash(&self) -> InputHash {
        InputHash::of(&self.input_ids)
    }

    /// Number of tokens that have a next token: one less than the number of tokens.
    pub fn next_tokens(&self) -> usize {
        self.input_ids.len().saturating_sub(1)
    }

    /// Number of positions.
    pub fn position_count(&self) -> usize {
        match &self.positions {
            Positions::All => self.next_tokens(),
            Positions::Chosen(chosen) => chosen.len(),
        }
    }

    /// The positions, in ascending order.
    pub fn position_indices(&self) -> impl Iterator<Item = usize> {
        let (all, chosen) = match &self.positions {
            Positions::All => (0..self.next_tokens(), &[][..]),
            Positions::Chosen(chosen) => (0..0, &chosen[..]),
        };
        all.chain(chosen.iter().map(|&position| position as usize))
    }

    /// The token at every position.
    ///
    /// # Panics
    /// If a position is not in the tokens.
    pub fn tokens_at_positions(&self) -> Cow<'_, [u32]> {
        match &self.positions {
            Positions::All => Cow::Borrowed(&self.input_ids[..self.next_tokens()]),
            Positions::Chosen(chosen) => chosen.iter().map(|&position| self.input_ids[position as usize]).collect(),
        }
    }

    /// The label of every position: the token that follows it.
    ///
    /// # Panics
    /// If a position has no next token.
    pub fn labels(&self) -> Cow<'_, [u32]> {
        match &self.positions {
            Positions::All => Cow::Borrowed(self.input_ids.get(1..).unwrap_or_default()),
            Positions::Chosen(chosen) => chosen.iter().map(|&position| self.input_ids[position as usize + 1]).collect(),
        }
    }

    /// Keeps the first `max_length` tokens, and the positions whose next token is among them.
    pub fn truncate(&mut self, max_length: usize) {
        self.input_ids.truncate(max_length);
        let end = self.next_tokens();
        if let Positions::Chosen(chosen) = &mut self.positions {
            chosen.truncate(chosen.partition_point(|&position| (position as usize) < end));
        }
    }
}

/// The first 16 bytes of the BLAKE3 hash of an input (key-derivation mode, context `logitcask input v1`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputHash(pub [u8; 16]);

impl InputHash {
    /// Hash of the token ids, each as four little-endian bytes.
    pub fn of(input_ids: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("logitcask input v1");
        for id in input_ids {
            hasher.update(&id.to_le_bytes());
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(short)
    }
}

impl fmt::Display for InputHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InputHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_positions_keep_their_labels() {
        let mut sample = Sample::new(SampleId(0), Origin { document: 0, offset: 0 }, vec![9, 8, 7, 6, 5]);
        sample.positions = Positions::Chosen(vec![0, 2, 3]);
        assert_eq!((&*sample.tokens_at_positions(), &*sample.labels()), (&[9, 7, 6][..], &[8, 6, 5][..]));
        sample.truncate(4);
        assert_eq!(sample.positions, Positions::Chosen(vec![0, 2]));
        assert_eq!(sample.position_indices().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(*sample.labels(), [8, 6]);
    }

    #[test]
    fn hash_sees_every_token_and_its_place() {
        let base = InputHash::of(&[1, 2, 3]);
        for other in [&[1, 3, 2][..], &[1, 2], &[1, 2, 3, 0], &[0x0002_0001, 3]] {
            assert_ne!(base, InputHash::of(other), "{other:?}");
        }
    }
}
