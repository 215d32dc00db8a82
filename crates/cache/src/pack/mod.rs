//! Lossless coding of one sample's kept classes in few bytes.
//!
//! A [`Model`] is trained on the rows of one shard: how common each class is, which classes follow which token, and how
//! far log-probabilities of each kind of class lie above the lowest of their position. An rANS coder then writes only what
//! these predictions leave open. No state passes between samples, so that any sample is decoded with the model and its own
//! bytes. FORMAT.md specifies all of it in its section on packed entries, from the coder's state to the numbers of the
//! tables; nothing here depends on Parquet, on files or on the rest of this crate.
//!
//! - [`coder`], [`range`] and [`tables`]: symbols, flags and bits under tables of frequencies, as an rANS stream.
//! - [`context_model`]: frequency classes, ranks and candidate lists.
//! - [`position`]: one position's classes and codes in the context of its token and of the positions before.
//! - [`values`]: log-probabilities as codes, in a coarse and a fine part.
//! - [`train`]: counting a shard's rows into a model, and the model's own bytes.

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

/// Largest vocabulary that a model takes.
pub(crate) const MAX_VOCAB: u32 = coder::NUMBER_END;

/// How many classes the positions of a cache keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountMode {
    /// Each position the same number.
    Fixed(u16),
    /// From one to `cap`.
    Varying {
        /// The largest number.
        cap: u16,
    },
    /// `n` in two groups, head before drawn, of which either may be empty.
    Split {
        /// The number of both together.
        n: u16,
    },
    /// All classes, in the order of their ids.
    Dense,
}

/// The kept classes of one sample, position after position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodedEntries {
    /// Kept classes of each position.
    pub(crate) counts: Vec<u16>,
    /// How many of each position's classes, the first ones, are its head; only for [`CountMode::Split`].
    pub(crate) heads: Vec<u16>,
    /// The classes; within a group by ascending code, ties by ascending id.
    pub(crate) class_ids: Vec<u32>,
    /// Their log-probabilities: the larger the code, the lower.
    pub(crate) codes: Vec<u16>,
}

/// What the samples of a shard have in common.
pub(crate) struct Model {
    /// Classes there are.
    vocab: u32,
    /// How many of them positions keep.
    shape: CountMode,
    /// What values are.
    codes: ValueCode,
    /// What to expect of classes.
    lists: ContextModel,
    /// One byte a weight, one list of weights a table: what `tables` were made from.
    weights: Vec<Vec<u8>>,
    /// How likely everything is.
    tables: Tables,
}

impl Model {
    /// The bytes of a sample with these tokens.
    pub(crate) fn encode(&self, input_ids: &[u32], entries: &CodedEntries) -> Vec<u8> {
        let mut encoder = Encoder::new(&self.tables);
        self.code_all(&mut encoder, input_ids, entries);
        encoder.finish()
    }

    /// The sample with these tokens that has these bytes, or why there is none.
    pub(crate) fn decode(&self, input_ids: &[u32], bytes: &[u8]) -> Result<CodedEntries, PackError> {
        let positions = input_ids.len().saturating_sub(1);
        let mut decoder = Decoder::new(&self.tables, bytes)?;
        let (mut entries, mut recent) = (CodedEntries::default(), RecentClasses::new(self.vocab));
        let mut items = Vec::new();
        for &token in &input_ids[..positions] {
            items.clear();
            self.position(&mut decoder, token, &[], &mut recent, &mut items)?;
            self.append(&mut items, &mut entries);
        }
        decoder.finish()?;
        Ok(entries)
    }

    /// Puts a position's items at the end of `entries`, in their order.
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
