//! Errors in the bytes of packed samples and models.

/// Bytes that our encoder would never write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A stream is shorter than the coder's state.
    #[error("there are fewer than six bytes")]
    TooShort,
    /// The coder's state is below its minimum.
    #[error("the first six bytes are no state of the encoder")]
    State,
    /// The stream ended too early.
    #[error("the bytes run out")]
    RunOut,
    /// The stream has bytes after its end.
    #[error("bytes are left over")]
    LeftOver,
    /// The tables of a model are truncated.
    #[error("the model's tables are cut off")]
    TablesCut,
    /// The coefficients of a model are truncated.
    #[error("the model's coefficients are cut off")]
    CoefficientsCut,
    /// A table has more weights than is possible.
    #[error("table {table} of the model has weights for {symbols} symbols")]
    TableSymbols {
        /// The table's index.
        table: usize,
        /// Number of its weights.
        symbols: usize,
    },
    /// A model has the wrong number of tables.
    #[error("the model has {got} tables, {expected} belong there")]
    Tables {
        /// Number of tables in the model.
        got: usize,
        /// Required number of tables.
        expected: usize,
    },
    /// The vocabulary is too large for ranks to be coded.
    #[error("a vocabulary of {vocab_size} is too large")]
    Vocabulary {
        /// Its size.
        vocab_size: u32,
    },
    /// A candidate list belongs to a token outside the vocabulary.
    #[error("the model has a candidate list of a token outside the vocabulary")]
    ListToken,
    /// A candidate list is too long.
    #[error("the model has a list of {length} candidates, at most {longest} can be")]
    ListLength {
        /// Its length.
        length: u32,
        /// Maximum length.
        longest: u32,
    },
    /// A rank has no class.
    #[error("rank {rank} is outside the vocabulary of {vocab_size}")]
    Rank {
        /// The rank.
        rank: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// A code is outside the range of codes.
    #[error("a code is outside the range of codes")]
    Code,
    /// A position has more classes than the plan keeps.
    #[error("there are {count} classes at a position")]
    Count {
        /// Number of classes.
        count: u32,
    },
    /// The encoder would have written other bytes for the same entries.
    #[error("no entry is as low as the lowest that was announced")]
    Lowest,
    /// A log-partition is not as the encoder would have written it.
    #[error("log_z is coded as no encoder would")]
    LogZ,
    /// Atoms are out of range, or not as the encoder would have written them.
    #[error("the tail's atoms are coded as no encoder would")]
    Atoms,
}
