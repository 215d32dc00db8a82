//! The plan of a cache, fixed before the first sample: all pins, and the division of the work into units.

mod check;
mod units;

use crate::error::{Error, Result};
use crate::json;
use crate::names::PLAN_NAME;
use crate::pins::{self, AddedToken, ArtifactRef, Versions};
use crate::storage::Storage;
use crate::store::{LocalStore, Store};
use logitcask_core::{ExtraColumn, Fingerprint, PositionChoice, Selection, Truncation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub use check::{MAX_ROW_BYTES, MAX_SAMPLES, MAX_SPLIT_NAME, MAX_SPLITS, MAX_UNIT_BLOCKS, MAX_UNITS};
pub use units::{MAX_PART_BLOCKS, MAX_PART_UNITS, Split, WorkUnit};

/// Rows of a block (a Parquet row group) where they are small enough.
pub const ROWS_PER_ROW_GROUP: u64 = 128;
/// Maximum size of a block's lists before compression: blocks of larger rows have fewer of them.
pub const ROW_GROUP_BYTES: u64 = 20 << 20;

/// How rows are stored as columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Typed lists that any Parquet reader understands.
    #[default]
    Plain,
    /// Kept classes entropy-coded into one binary value per sample: about two thirds of the size, but only Logitcask
    /// can read it.
    Packed,
}

impl Layout {
    /// The name in plans, footers and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Packed => "packed",
        }
    }
}

/// All settings that determine a cache's bytes. `code_version`, the names of the pins and `companions` are stored with
/// them but are not part of the id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT_VERSION`](crate::FORMAT_VERSION).
    pub format_version: u32,
    /// Version of the program that began the cache. Not part of the id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code_version: String,
    /// Versions of the conversions that determine the bytes.
    #[serde(default = "Versions::first", skip_serializing_if = "Versions::are_first")]
    pub versions: Versions,
    /// How rows are stored as columns.
    pub layout: Layout,
    /// Number of classes that may be kept: the tokenizer's highest id + 1. The teacher's head has
    /// [`Truncation::padding`] more.
    pub vocab_size: u32,
    /// Maximum number of tokens of a sample.
    pub max_length: u32,
    /// Number format in which the teacher computes.
    pub precision: String,
    /// Bound on the number of samples of a batch times the length of the longest: another batch may change the last bit of
    /// a logit.
    pub batch_tokens: u64,
    /// Which positions of a sample are cached.
    #[serde(default, skip_serializing_if = "PositionChoice::is_all")]
    pub positions: PositionChoice,
    /// What is kept of a position.
    pub keep: Truncation,
    /// Columns beside the logits, in the order of a shard's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<ExtraColumn>,
    /// The teacher's weights.
    pub teacher: ArtifactRef,
    /// The tokenizer, pinned by the hash of the bytes of `tokenizer.json`.
    pub tokenizer: ArtifactRef,
    /// Tokens that are not in `tokenizer.json`; its configuration assigned them the next ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_tokens: Vec<AddedToken>,
    /// How special tokens that a text spells out were treated: `refuse`, `plain` or `parse`.
    #[serde(default = "pins::refuse", skip_serializing_if = "pins::is_refuse")]
    pub special_tokens: String,
    /// What determines how the conversations of the dataset were written as text and what is learned of them, by name:
    /// the hash of the chat template, its date and variables, which turns are answers. Empty for other datasets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conversations: BTreeMap<String, String>,
    /// Token before every window, if there is one.
    pub bos: Option<u32>,
    /// Token after every document, if there is one.
    pub end: Option<u32>,
    /// The dataset's text and its division into windows.
    pub dataset: ArtifactRef,
    /// Files of the teacher that the cache stores for its students, in the order of their names. Not part of the id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<ArtifactRef>,
    /// The splits, in the order of their units.
    pub splits: Vec<Split>,
    /// Number of samples of a unit; the last unit of each split has the remainder.
    pub samples_per_unit: u64,
}

impl Plan {
    /// BLAKE3 of the RFC 8785 form of the plan without `code_version`, `companions` and the names of its pins. Plans
    /// with the same id produce the same cache.
    pub fn id(&self) -> Fingerprint {
        let nameless = |pin: &ArtifactRef| ArtifactRef { name: String::new(), fingerprint: pin.fingerprint };
        let identity = Self {
            code_version: String::new(),
            teacher: nameless(&self.teacher),
            tokenizer: nameless(&self.tokenizer),
            dataset: nameless(&self.dataset),
            companions: Vec::new(),
            ..self.clone()
        };
        json::hash(&identity)
    }

    /// A short description of the selection.
    pub fn selection(&self) -> String {
        match self.keep.selection {
            Selection::TopK { k } => format!("top_k k={k}"),
            Selection::TopP { p, k } => format!("top_p p={p} k={k}"),
            Selection::Sample { n, seed } => format!("sample n={n} seed={seed}"),
            Selection::Dense {} => "dense".to_owned(),
        }
    }

    /// Number of rows of a block: [`ROWS_PER_ROW_GROUP`], or as many rows of full length as [`ROW_GROUP_BYTES`] holds,
    /// but at least one.
    ///
    /// It depends on the plan only, so that a reader knows every block without opening a shard.
    pub fn rows_per_group(&self) -> u64 {
        (ROW_GROUP_BYTES / self.row_bytes().max(1)).clamp(1, ROWS_PER_ROW_GROUP)
    }

    /// Size of the longest sample's lists before compression.
    fn row_bytes(&self) -> u64 {
        // Input id, log_z, gold log-probability, gold rank, counts; two numbers for each atom; then an id and a
        // value for each kept class.
        let (atoms, cap) = (self.keep.atoms() as u64, u64::from(self.max_kept()));
        let listed = if self.positions.is_all() { 0 } else { 4 };
        let extras: u64 = self.extras.iter().map(|extra| 4 * extra.len(self.max_length as usize) as u64).sum();
        u64::from(self.max_length) * (4 + 4 + 4 + 4 + 2 + 2 + listed + atoms * 4 + cap * (4 + 4)) + extras
    }

    /// Maximum number of classes that a position keeps.
    pub(crate) fn max_kept(&self) -> u32 {
        self.keep.max_kept(self.vocab_size)
    }

    /// Reads the plan of the cache in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] if its file cannot be read, [`Error::Version`] if it has another format version,
    /// [`Error::Malformed`] if it is not a plan, or one that [`Self::check`] rejects.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_from(&LocalStore::new(folder, Storage::READ))
    }

    /// [`Self::read`] from a store.
    ///
    /// # Errors
    /// The same as [`Self::read`].
    pub fn read_from(store: &dyn Store) -> Result<Self> {
        let plan: Self = json::read_versioned(store, PLAN_NAME)?;
        match plan.refusal() {
            Ok(()) => Ok(plan),
            Err(problem) => Err(Error::malformed(&store.path(PLAN_NAME), problem)),
        }
    }
}
