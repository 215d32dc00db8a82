//! Lossless coding of one sample's kept classes in few bytes: a model of the shard predicts them, rANS writes what
//! the predictions leave open. A sample needs the model and its own bytes; nothing passes between samples.

mod coder;
mod error;
mod lists;
mod position;
mod range;
mod tables;
#[cfg(test)]
mod tests;
mod train;
mod values;

pub use error::PackError;
use lists::Lists;
use position::{Item, Recent};
use range::{Decoder, Encoder};
use tables::Tables;
pub(crate) use values::Codes;

/// Largest vocabulary that a model takes.
pub(crate) const MAX_VOCAB: u32 = coder::NUMBER_END;

/// How many classes the positions of a cache keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
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
pub(crate) struct Entries {
    /// Kept classes of each position.
    pub(crate) counts: Vec<u16>,
    /// How many of each position's classes, the first ones, are its head; only for [`Shape::Split`].
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
    shape: Shape,
    /// What values are.
    codes: Codes,
    /// What to expect of classes.
    lists: Lists,
    /// One byte a weight, one list of weights a table: what `tables` were made from.
    weights: Vec<Vec<u8>>,
    /// How likely everything is.
    tables: Tables,
}

impl Model {
    /// The bytes of a sample with these tokens.
    pub(crate) fn encode(&self, input_ids: &[u32], entries: &Entries) -> Vec<u8> {
        let mut encoder = Encoder::new(&self.tables);
        self.visit(&mut encoder, input_ids, entries);
        encoder.finish()
    }

    /// The sample with these tokens that has these bytes, or why there is none.
    pub(crate) fn decode(&self, input_ids: &[u32], bytes: &[u8]) -> Result<Entries, PackError> {
        let positions = input_ids.len().saturating_sub(1);
        let mut decoder = Decoder::new(&self.tables, bytes)?;
        let (mut entries, mut recent) = (Entries::default(), Recent::new(self.vocab));
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
    fn append(&self, items: &mut [Item], entries: &mut Entries) {
        entries.counts.push(items.len() as u16);
        if let Shape::Split { .. } = self.shape {
            entries.heads.push(items.iter().filter(|item| !item.drawn).count() as u16);
        }
        let id = |item: &Item| self.lists.id_of(item.rank);
        if self.shape != Shape::Dense {
            let key = |item: &Item| u64::from(item.drawn) << 48 | u64::from(item.code) << 32 | u64::from(id(item));
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
