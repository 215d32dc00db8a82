//! The parts of a shard that have a hash of their own.

use std::fmt;
use std::ops::Range;

/// A part of a shard with a hash of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardPart {
    /// A row group, with the ids of its samples where the footer could be read.
    RowGroup {
        /// Its number within the shard.
        number: usize,
        /// Ids of its samples.
        samples: Option<Range<u64>>,
    },
    /// Everything behind the row groups: page indexes, footer, magic.
    Footer,
}

impl ShardPart {
    /// The part of this number of a shard that has so many parts.
    pub(crate) fn of(number: usize, parts: usize) -> Self {
        if number + 1 == parts { Self::Footer } else { Self::RowGroup { number, samples: None } }
    }
}

impl fmt::Display for ShardPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowGroup { number, samples: None } => write!(f, "row group {number}"),
            Self::RowGroup { number, samples: Some(ids) } => {
                write!(f, "row group {number} (samples {} to {})", ids.start, ids.end - 1)
            }
            Self::Footer => f.write_str("footer"),
        }
    }
}
