//! Lossless coding of what a teacher says about one sample in few bytes.
//!
//! A [`Model`] is trained on the rows of one shard: how common each class is, which classes follow which token, how
//! far log-probabilities of each kind of class are above the lowest one of their position, and how log_z and the tail
//! follow from them. An rANS coder then writes only what these predictions leave open. No state passes between
//! samples, so any sample can be decoded with the model and its own bytes. FORMAT.md specifies all of it in its section
//! on packed rows, from the coder's state to the indices of the tables; nothing here depends on Parquet, on files or on
//! the rest of this crate.
//!
//! - [`coder`], [`range`] and [`tables`]: symbols, flags and bits coded with tables of frequencies as an rANS stream.
//! - [`context_model`]: frequency classes, ranks and candidate lists.
//! - [`position`]: one position's classes and codes in the context of its token and of the previous positions.
//! - [`summary`] and [`predictor`]: a position's log_z, label and tail, given its entries.
//! - [`values`]: log-probabilities as codes with a coarse and a fine part.
//! - [`train`]: training a model on a shard's rows, and the model's own bytes.

mod coder;
mod context_model;
mod error;
mod position;
mod predictor;
mod range;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod train;
mod values;

use context_model::ContextModel;
pub use error::PackError;
use position::{CodedEntry, RecentClasses};
use predictor::Predictor;
use range::{Decoder, Encoder};
use std::ops::Range;
use summary::{Entries, Summary};
use tables::Tables;
pub(crate) use values::ValueCode;

/// Largest vocabulary that a model supports.
pub(crate) const MAX_VOCAB: u32 = coder::NUMBER_END;
/// Maximum number of atoms per position.
const MAX_ATOMS: usize = 8;
/// The rank of a label that is not kept, where no other rank is known of it.
const NOT_KEPT: u32 = u32::MAX;
/// An unused atom, which only other unused ones may follow.
const NO_ATOM: [i16; 2] = [i16::MIN; 2];

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

/// What is known of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelMode {
    /// The rank and the log-probability of each.
    All,
    /// The place of those that are kept; of others only that they are not, which is the rank [`NOT_KEPT`].
    Kept,
    /// Nothing.
    Unknown,
}

/// What all rows of a cache have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowShape {
    /// Number of classes.
    pub(crate) vocab: u32,
    /// How the number of kept classes is coded.
    pub(crate) counts: CountMode,
    /// How values are coded.
    pub(crate) codes: ValueCode,
    /// Number of atoms per position, at most [`MAX_ATOMS`].
    pub(crate) atoms: usize,
    /// Whether log_z is known.
    pub(crate) log_z: bool,
    /// What is known of the labels.
    pub(crate) labels: LabelMode,
}

/// The input of a sample at its positions.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The tokens.
    pub(crate) tokens: &'a [u32],
    /// The labels.
    pub(crate) labels: &'a [u32],
}

/// What the teacher says about one sample, position by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodedRows {
    /// Number of kept classes at each position.
    pub(crate) counts: Vec<u16>,
    /// Number of classes in the head of each position, which come first; only for [`CountMode::Split`].
    pub(crate) heads: Vec<u16>,
    /// The classes; within a group by ascending code, with ties by ascending id.
    pub(crate) class_ids: Vec<u32>,
    /// Codes of their log-probabilities; a larger code is a lower log-probability.
    pub(crate) codes: Vec<u16>,
    /// The bits of log_z at each position; none if it is not known.
    pub(crate) log_z: Vec<u32>,
    /// The label's rank at each position, or its place, as [`LabelMode`] says.
    pub(crate) gold_ranks: Vec<u32>,
    /// The code of the label's log-probability at each position; only for [`LabelMode::All`].
    pub(crate) gold_codes: Vec<u16>,
    /// The logit and the log-weight of each atom.
    pub(crate) atoms: Vec<[i16; 2]>,
}

impl CodedRows {
    /// The entries of position `at`, which lie in `range`.
    fn entries(&self, at: usize, range: Range<usize>) -> Entries<'_> {
        let head = self.heads.get(at).map_or(range.len(), |&head| usize::from(head));
        Entries { class_ids: &self.class_ids[range.clone()], codes: &self.codes[range], head }
    }

    /// The rest of position `at`, which has `count` atoms.
    fn summary(&self, at: usize, count: usize) -> Summary {
        let mut atoms = [NO_ATOM; MAX_ATOMS];
        atoms[..count].copy_from_slice(&self.atoms[at * count..(at + 1) * count]);
        let [log_z, gold_rank] = [&self.log_z, &self.gold_ranks].map(|all| all.get(at).copied().unwrap_or_default());
        Summary { log_z, gold_rank, gold_code: self.gold_codes.get(at).copied().unwrap_or_default(), atoms }
    }

    /// Appends the rest of a position, as far as it is known.
    fn push_summary(&mut self, summary: &Summary, shape: &RowShape) {
        if shape.log_z {
            self.log_z.push(summary.log_z);
        }
        if shape.labels != LabelMode::Unknown {
            self.gold_ranks.push(summary.gold_rank);
        }
        if shape.labels == LabelMode::All {
            self.gold_codes.push(summary.gold_code);
        }
        self.atoms.extend_from_slice(&summary.atoms[..shape.atoms]);
    }
}

/// What the samples of a shard have in common.
pub(crate) struct Model {
    /// What the rows of the cache have in common.
    shape: RowShape,
    /// Statistics of the classes.
    lists: ContextModel,
    /// Predicts log_z and the tail.
    predictor: Predictor,
    /// Weights, one byte each and one list per table, from which `tables` are built.
    weights: Vec<Vec<u8>>,
    /// The frequencies of all symbols.
    tables: Tables,
}

impl Model {
    /// Encodes the rows of a sample with this input.
    pub(crate) fn encode(&self, inputs: Inputs<'_>, rows: &CodedRows) -> Vec<u8> {
        let mut encoder = Encoder::new(&self.tables);
        self.code_all(&mut encoder, inputs, rows);
        encoder.finish()
    }

    /// Decodes the bytes of a sample with this input, or returns why they are invalid.
    pub(crate) fn decode(&self, inputs: Inputs<'_>, bytes: &[u8]) -> Result<CodedRows, PackError> {
        let mut decoder = Decoder::new(&self.tables, bytes)?;
        let (mut rows, mut recent) = (CodedRows::default(), RecentClasses::new(self.shape.vocab));
        let mut items = Vec::new();
        for (at, (&token, &label)) in inputs.tokens.iter().zip(inputs.labels).enumerate() {
            items.clear();
            self.position(&mut decoder, token, &[], &mut recent, &mut items)?;
            let start = rows.codes.len();
            self.append(&mut items, &mut rows);
            let entries = rows.entries(at, start..rows.codes.len());
            let summary = self.summary(&mut decoder, entries, label, &Summary::UNKNOWN)?;
            rows.push_summary(&summary, &self.shape);
        }
        decoder.finish()?;
        Ok(rows)
    }

    /// Appends a position's items to `rows`, in their order.
    fn append(&self, items: &mut [CodedEntry], rows: &mut CodedRows) {
        rows.counts.push(items.len() as u16);
        if let CountMode::Split { .. } = self.shape.counts {
            rows.heads.push(items.iter().filter(|item| !item.drawn).count() as u16);
        }
        let id = |item: &CodedEntry| self.lists.id_of(item.rank);
        if self.shape.counts != CountMode::Dense {
            let key =
                |item: &CodedEntry| u64::from(item.drawn) << 48 | u64::from(item.code) << 32 | u64::from(id(item));
            let mut keys: Vec<u64> = items.iter().map(key).collect();
            keys.sort_unstable();
            rows.class_ids.extend(keys.iter().map(|&key| key as u32));
            rows.codes.extend(keys.iter().map(|&key| (key >> 32) as u16));
        } else {
            rows.class_ids.extend(items.iter().map(id));
            rows.codes.extend(items.iter().map(|item| item.code));
        }
    }
}
