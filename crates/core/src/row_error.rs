//! What breaks an invariant of soft rows.

/// A row that cannot be what a teacher said about its input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A column is shorter or longer than the positions and counts demand.
    #[error("column `{column}` holds {got} values, {expected} belong there")]
    Length {
        /// Its name.
        column: &'static str,
        /// What positions and counts demand.
        expected: usize,
        /// What it holds.
        got: usize,
    },
    /// One position breaks an invariant.
    #[error("position {position}: {problem}")]
    Position {
        /// Counted from 0.
        position: usize,
        /// What is wrong there.
        problem: PositionError,
    },
}

/// An invariant of one position that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// Nothing was kept.
    #[error("no class was kept, at least one belongs here")]
    NoClass,
    /// Another number of classes than the truncation keeps.
    #[error("{count} classes kept, {least} to {most} belong here")]
    Count {
        /// How many were kept.
        count: u16,
        /// The fewest that the truncation keeps.
        least: u32,
        /// The most.
        most: u32,
    },
    /// More sampled classes than there are classes, or some where none are sampled.
    #[error("{sampled} of {count} kept classes are said to be drawn at random")]
    Sampled {
        /// How many are said to be sampled.
        sampled: u16,
        /// How many were kept.
        count: u16,
    },
    /// NaN or an infinity.
    #[error("a log-probability or log_z is not a finite number")]
    NotFinite,
    /// A kept class or the label that the vocabulary does not have.
    #[error("class {class} is outside the vocabulary of {vocab_size}")]
    OutsideVocabulary {
        /// The class.
        class: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// The kept classes hold more than the whole probability.
    #[error("kept classes hold {mass:.4} of the probability: log_z is below their log-sum-exp")]
    LogZTooSmall {
        /// The probability that they hold.
        mass: f64,
    },
    /// Even the largest log-probability is below that of a uniform distribution.
    #[error("largest log-probability {largest} is below -ln V: log_z is too large")]
    LogZTooLarge {
        /// The largest log-probability.
        largest: f32,
    },
    /// A dense row has class `i` at place `i`.
    #[error("classes of a dense row are not in their own order")]
    DenseOrder,
    /// Neighbours in the wrong order, within the deterministic or the sampled part.
    #[error("log-probabilities are not sorted, largest first and ties to the lower id")]
    Unsorted,
    /// A class that was kept two times.
    #[error("class {class} is kept twice")]
    Twice {
        /// The class.
        class: u32,
    },
    /// A class of `always_keep` that was not kept.
    #[error("class {class} is always kept, and missing here")]
    AlwaysKeptMissing {
        /// The class.
        class: u32,
    },
    /// Atoms in the wrong order.
    #[error("tail atoms are not sorted, largest logit first and unused ones last")]
    TailUnsorted,
    /// The kept classes and the tail are not one distribution.
    #[error("kept classes and tail hold {total:.4} of the probability, 1 belongs there")]
    Mass {
        /// The probability that they hold together.
        total: f64,
    },
    /// The label is not where its rank says, or has another log-probability there.
    #[error(
        "label {label} has rank {rank} and log-probability {log_prob}, but the kept classes {}: this row belongs to \
         another input",
        found.map_or("lack it".to_owned(), |(place, there)| format!("hold it at {place} with {there}"))
    )]
    Label {
        /// The label.
        label: u32,
        /// Its stored rank.
        rank: u32,
        /// Its stored log-probability.
        log_prob: f32,
        /// Where it stands among the kept classes, and the log-probability there.
        found: Option<(usize, f32)>,
    },
}
