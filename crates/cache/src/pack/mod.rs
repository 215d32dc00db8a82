//! Lossless coding of one sample's kept classes in few bytes.
//!
//! A [`Model`] is trained on the rows of one shard: how common each class is, which classes follow which token, and how
//! far log-probabilities of each kind of class are above the lowest one of their position. An rANS coder then writes
//! only what these predictions leave open. No state passes between samples, so any sample can be decoded with the model
//! and its own bytes. FORMAT.md specifies all of it in its section on packed entries, from the coder's state to the
//! indices of the tables; nothing here depends on Parquet, on files or on the rest of this crate.
//!
//! - [`coder`], [`range`] and [`tables`]: symbols, flags and bits coded with tables of frequencies as an rANS stream.
//! - [`context_model`]: frequency classes, ranks and candidate lists.
//! - [`position`]: one position's classes and codes in the context of its token and of the previous positions.
//! - [`values`]: log-probabilities as codes with a coarse and a fine part.
//! - [`train`]: training a model on a shard's rows, and the model's own bytes.

mod coder;
mod context_model;
mod error;
mod position;
mod range;
mod tables;
#[cfg(test)]
mod tests;
mod train;
mod values;

use context_model::ContextModel;
pub use error::PackError;
use position::{CodedEntry, RecentClasses};
use range::{Decoder, Encoder};
use tables::Tables;
pub(crate) use values::ValueCode;

/// Largest vocabulary that a model supports.
pub(crate) const MAX_VOCAB: u32 = coder::NUMBER_END;

/// How the number of kept classes per position is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountMode {
    /// Every position keeps the same number.
    Fixed(u16),
    /// Every position keeps from one to `cap` classes.
    Varying {
        /// The largest number.
        cap: u16,
    },
    /// Every position keeps `n` classes in two groups, the head before the sampled ones, of which either may be empty.
    Split {
        /// Number of classes in both groups together.
        n: u16,
    },
    /// All classes are kept, in the order of their ids.
    Dense,
}

/// The kept classes of one sample, position by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodedEntries {
    /// Number of kept classes at each position.
    pub(crate) counts: Vec<u16>,
    /// Number of classes in the head of each position, which come first; only for [`CountMode::Split`].
    pub(crate) heads: Vec<u16>,
    /// The classes; within a group by ascending code, with ties by ascending id.
    pub(crate) class_ids: Vec<u32>,
    /// Codes of their log-probabilities; a larger code is a lower log-probability.
    pub(crate) codes: Vec<u16>,
}

/// What the samples of a shard have in common.
pub(crate) struct Model {
    /// Number of classes.
    vocab: u32,
    /// How the number of kept classes is coded.
    shape: CountMode,
    /// How values are coded.
    codes: ValueCode,
    /// Statistics of the classes.
    lists: ContextModel,
    /// Weights, one byte each and one list per table, from which `tables` are built.
    weights: Vec<Vec<u8>>,
    /// The frequencies of all symbols.
    tables: Tables,
}

impl Model {
    /// Encodes a sample with these tokens at its positions.
    pub(crate) fn encode(&self, tokens: &[u32], entries: &CodedEntries) -> Vec<u8> {
        let mut encoder = Encoder::new(&self.tables);
        self.code_all(&mut encoder, tokens, entries);
        encoder.finish()
    }

    /// Decodes the bytes of a sample with these tokens at its positions, or returns why they are invalid.
    pub(crate) fn decode(&self, tokens: &[u32], bytes: &[u8]) -> Result<CodedEntries, PackError> {
        let mut decoder = Decoder::new(&self.tables, bytes)?;
        let (mut entries, mut recent) = (CodedEntries::default(), RecentClasses::new(self.vocab));
        let mut items = Vec::new();
        for &token in tokens {
            items.clear();
            self.position(&mut decoder, token, &[], &mut recent, &mut items)?;
            self.append(&mut items, &mut entries);
        }
        decoder.finish()?;
        Ok(entries)
    }

    /// Appends a position's items to `entries`, in their order.
    fn append(&self, items: &mut [CodedEntry], entries: &mut CodedEntries) {
        entries.counts.push(items.len() as u16);
        if let CountMode::Split { .. } = self.shape {
            entries.heads.push(items.iter().filter(|item| !item.drawn).count() as u16);
        }
        let id = |item: &CodedEntry| self.lists.id_of(item.rank);
        if self.shape != CountMode::Dense {
            let key =
                |item: &CodedEntry| u64::from(item.drawn) << 48 | u64::from(item.code) << 32 | u64::from(id(item));
            let mut keys: Vec<u64> = items.iter().map(key).collect();
            keys.sort_unstable();
            entries.class_ids.extend(keys.iter().map(|&key| key as u32));
            entries.codes.extend(keys.iter().map(|&key| (key >> 32) as u16));
        } else {
            entries.class_ids.extend(items.iter().map(id));
            entries.codes.extend(items.iter().map(|item| item.code));
        }
    }
}
