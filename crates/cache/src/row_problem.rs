//! Reasons why a row cannot be read or must not be written.

use crate::column_chunk::ColumnError;
use crate::pack::PackError;
use logitcask_core::{InputHash, LogProbPrecision, RowError};

/// A problem with one row of a shard, or with a row that a writer was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// A column could not be decoded up to this row.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// The packed classes could not be decoded.
    #[error("packed: {0}")]
    Packed(#[from] PackError),
    /// The rows break an invariant between them and their input.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// The sample is too short for a next token, or longer than the plan allows.
    #[error("{got} tokens, 2 to {most} belong in a sample")]
    TokenCount {
        /// Number of tokens.
        got: usize,
        /// The plan's `max_length`.
        most: u32,
    },
    /// A token is not in the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// The positions do not ascend, do not have a next token each, or are none.
    #[error("`positions` must hold at least one position, in ascending order, each below {end}")]
    Positions {
        /// Number of tokens that have a next token.
        end: usize,
    },
    /// A writer was given all positions of a sample, but the plan chooses some.
    #[error("the plan chooses positions, and the sample does not list its own")]
    PositionsNotListed,
    /// A writer was given chosen positions, but the plan caches all.
    #[error("the plan caches every position, and the sample lists some")]
    PositionsListed,
    /// Another sample than expected is stored in this place.
    #[error("the row says it is sample {got}")]
    OtherSample {
        /// The id of the stored sample.
        got: u64,
    },
    /// The tokens do not match the input hash stored with them.
    #[error("its tokens hash to {computed}, {stored} is stored: the tokens are another input's")]
    OtherInput {
        /// Hash of the tokens.
        computed: InputHash,
        /// The stored hash.
        stored: InputHash,
    },
    /// The plan's precision cannot represent a log-probability.
    #[error("log-probability {log_prob} is none that {precision:?} writes")]
    Precision {
        /// The log-probability.
        log_prob: f32,
        /// The plan's precision.
        precision: LogProbPrecision,
    },
    /// A row has the numbers of more or fewer extra columns than the plan.
    #[error("numbers of {got} extra columns, the plan has {expected}")]
    ExtraCount {
        /// Number of columns.
        got: usize,
        /// That of the plan.
        expected: usize,
    },
    /// An extra column has more or fewer numbers than its size and the sample's positions make.
    #[error("`{column}` has {got} numbers, {expected} belong there")]
    ExtraLength {
        /// Name of the column.
        column: String,
        /// Number of numbers.
        got: usize,
        /// Number that belongs there.
        expected: usize,
    },
    /// An extra column has a number that is not finite, or that its precision does not have.
    #[error("`{column}` has {number}, which is no finite {precision}")]
    ExtraNumber {
        /// Name of the column.
        column: String,
        /// The number.
        number: f32,
        /// Name of the precision.
        precision: &'static str,
    },
    /// A code exceeds the largest one of the plan's precision.
    #[error("packed: code {code} is beyond the last, {last}")]
    Code {
        /// The code.
        code: u16,
        /// The largest code.
        last: u16,
    },
    /// A number does not fit the type that the format requires.
    #[error("column {column} holds numbers of more than {bytes} bytes")]
    Wide {
        /// The column.
        column: &'static str,
        /// Size of the format's type in bytes.
        bytes: usize,
    },
    /// The numbers of the atoms' logits and weights differ.
    #[error("{logits} tail logits with {weights} weights")]
    TailLengths {
        /// Number of logits.
        logits: usize,
        /// Number of weights.
        weights: usize,
    },
    /// A writer was given the wrong number of samples for a unit.
    #[error("unit {unit} got {got} samples, it has {expected} from here")]
    SampleCount {
        /// The unit.
        unit: usize,
        /// Number of samples that were given.
        got: usize,
        /// Number of samples in the unit.
        expected: u64,
    },
    /// A writer was given the wrong sample.
    #[error("sample {got} was given in its place")]
    GivenSample {
        /// The sample that was given.
        got: u64,
    },
}
