//! Why bytes are no packed sample, or no model of one.

/// Bytes that no encoder of ours writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A stream shorter than the coder's state.
    #[error("there are fewer than six bytes")]
    TooShort,
    /// A state below the smallest one.
    #[error("the first six bytes are no state of the encoder")]
    State,
    /// More was read than there is.
    #[error("the bytes run out")]
    RunOut,
    /// Less was read than there is.
    #[error("bytes are left over")]
    LeftOver,
    /// A model whose tables end too early.
    #[error("the model's tables are cut off")]
    TablesCut,
    /// A table of more weights than a table can have.
    #[error("table {table} of the model has weights for {symbols} symbols")]
    TableSymbols {
        /// Its number.
        table: usize,
        /// Its weights.
        symbols: usize,
    },
    /// A model of another number of tables.
    #[error("the model has {got} tables, {expected} belong there")]
    Tables {
        /// How many there are.
        got: usize,
        /// How many belong there.
        expected: usize,
    },
    /// More classes than ranks can be written of.
    #[error("a vocabulary of {vocab_size} is too large")]
    Vocabulary {
        /// Its size.
        vocab_size: u32,
    },
    /// A candidate list of a token that the vocabulary does not have.
    #[error("the model has a candidate list of a token outside the vocabulary")]
    ListToken,
    /// A candidate list longer than lists can be.
    #[error("the model has a list of {length} candidates, at most {longest} can be")]
    ListLength {
        /// Its length.
        length: u32,
        /// The most that are possible.
        longest: u32,
    },
    /// A rank that no class has.
    #[error("rank {rank} is outside the vocabulary of {vocab_size}")]
    Rank {
        /// The rank.
        rank: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// A code beyond the largest, or below 0.
    #[error("a code is outside the range of codes")]
    Code,
    /// More classes at a position than the plan keeps.
    #[error("there are {count} classes at a position")]
    Count {
        /// How many.
        count: u32,
    },
    /// The same entries would have been written in other bytes.
    #[error("no entry is as low as the lowest that was announced")]
    Lowest,
}
