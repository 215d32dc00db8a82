//! Why a row is not read or not written.

use crate::column_chunk::ColumnError;
use crate::pack::PackError;
use logitcask_core::{InputHash, LogProbPrecision, RowError};

/// What is wrong with one row of a shard, or with one that a writer was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// A column could not be decoded up to this row.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// The packed classes could not be decoded.
    #[error("packed: {0}")]
    Packed(#[from] PackError),
    /// The rows break an invariant that ties them to their input.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// A sample too short for a next token, or longer than the plan's.
    #[error("{got} tokens, 2 to {most} belong in a sample")]
    TokenCount {
        /// How many there are.
        got: usize,
        /// The plan's `max_length`.
        most: u32,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// Another sample than belongs in this place.
    #[error("the row says it is sample {got}")]
    OtherSample {
        /// The sample it says it is.
        got: u64,
    },
    /// Tokens of another input than the hash beside them.
    #[error("its tokens hash to {computed}, {stored} is stored: the tokens are another input's")]
    OtherInput {
        /// Hash of the tokens.
        computed: InputHash,
        /// The hash beside them.
        stored: InputHash,
    },
    /// A log-probability that the plan's precision does not write.
    #[error("log-probability {log_prob} is none that {precision:?} writes")]
    Precision {
        /// The log-probability.
        log_prob: f32,
        /// The plan's precision.
        precision: LogProbPrecision,
    },
    /// A code beyond the plan's precision.
    #[error("packed: code {code} is beyond the last, {last}")]
    Code {
        /// The code.
        code: u16,
        /// The largest code there is.
        last: u16,
    },
    /// A number that does not fit the type the format gives it.
    #[error("column {column} holds numbers of more than {bytes} bytes")]
    Wide {
        /// The column.
        column: &'static str,
        /// Bytes of the format's type.
        bytes: usize,
    },
    /// Atoms whose logits and weights are not pairs.
    #[error("{logits} tail logits with {weights} weights")]
    TailLengths {
        /// Logits there are.
        logits: usize,
        /// Weights there are.
        weights: usize,
    },
    /// An input hash of another length than the format's.
    #[error("an input hash of {0} bytes")]
    HashLength(usize),
    /// A writer was given another number of samples than its unit has.
    #[error("unit {unit} got {got} samples, it has {expected} from here")]
    SampleCount {
        /// The unit.
        unit: usize,
        /// How many were given.
        got: usize,
        /// How many the unit has.
        expected: u64,
    },
    /// A writer was given another sample.
    #[error("sample {got} was given in its place")]
    GivenSample {
        /// The sample that was given.
        got: u64,
    },
}
