//! One input of a dataset, and the hash that ties every later row to it.

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

/// A window of tokens: exactly what the teacher saw and what a student will see.
///
/// # Examples
/// ```
/// use logitcask_core::{Origin, Sample, SampleId};
///
/// let origin = Origin { document: 0, offset: 0 };
/// let sample = Sample { id: SampleId(0), origin, input_ids: vec![5, 8, 13] };
/// assert_eq!(sample.positions(), 2);
/// assert_eq!(sample.gold_ids(), [8, 13]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its index in the dataset.
    pub id: SampleId,
    /// Where it was cut from.
    pub origin: Origin,
    /// At least two tokens; `L` tokens admit exactly `L - 1` next-token distributions.
    pub input_ids: Vec<u32>,
}

impl Sample {
    /// Hash of the tokens, see [`InputHash::of`].
    pub fn input_hash(&self) -> InputHash {
        InputHash::of(&self.input_ids)
    }

    /// Number of positions with a teacher row: one less than the number of tokens.
    pub fn positions(&self) -> usize {
        self.input_ids.len().saturating_sub(1)
    }

    /// The observed next token of every position.
    pub fn gold_ids(&self) -> &[u32] {
        self.input_ids.get(1..).unwrap_or_default()
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
    fn hash_sees_every_token_and_its_place() {
        let base = InputHash::of(&[1, 2, 3]);
        for other in [&[1, 3, 2][..], &[1, 2], &[1, 2, 3, 0], &[0x0002_0001, 3]] {
            assert_ne!(base, InputHash::of(other), "{other:?}");
        }
    }
}
