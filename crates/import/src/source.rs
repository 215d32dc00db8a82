//! What all formats have in common: a source of samples.

use crate::error::Result;
use logitcask_core::{Fingerprint, PositionChoice, Positions, RowSource, Selection};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The cache of another tool.
pub trait Source: Sync {
    /// What is known of every position.
    fn info(&self) -> SourceInfo;

    /// Number of tokens of each sample, in order; each is at least 2.
    fn lengths(&self) -> &[u32];

    /// Hash of the files' bytes and of how they are read: what determines the samples.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn fingerprint(&self) -> Result<Fingerprint>;

    /// The samples with these indices, in order.
    ///
    /// # Errors
    /// A file that cannot be opened. Errors of a sample are items of the iterator.
    fn samples(&self, range: Range<u64>) -> Result<Samples<'_>>;

    /// What a user should know of the files, in plain sentences.
    fn notes(&self) -> Vec<String>;
}

/// An iterator over samples.
pub type Samples<'a> = Box<dyn Iterator<Item = Result<ForeignSample>> + 'a>;

/// What a source tells of every position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceInfo {
    /// The rule by which it kept classes.
    pub selection: Selection,
    /// Which positions of a sample it has.
    pub positions: PositionChoice,
    /// What it stored of them.
    pub source: RowSource,
}

/// A sample as another tool stored it; nothing of it has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignSample {
    /// Where it is.
    pub place: Place,
    /// Its index in the source, including samples that were left out.
    pub document: u64,
    /// Its tokens.
    pub input_ids: Vec<u64>,
    /// The positions that have rows.
    pub positions: Positions,
    /// What was stored of each of them.
    pub rows: Vec<ForeignPosition>,
}

/// What another tool stored of a position.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignPosition {
    /// The kept classes, in the order in which they are stored.
    pub entries: Vec<Entry>,
    /// log sum exp of the raw logits over all classes, if it was stored.
    pub log_z: Option<f64>,
}

/// A kept class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: u64,
    /// Its log-probability at T = 1.
    pub log_prob: f64,
}

/// Where a sample is, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// What the file is a sequence of: `row` or `line`.
    pub unit: &'static str,
    /// Its number in the file, from 0 for rows and from 1 for lines.
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.path.display(), self.unit, self.number)
    }
}
