//! Errors for soft rows that break an invariant.

/// A row that cannot be a teacher's output for its input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A column's length does not match the positions and counts.
    #[error("column `{column}` holds {got} values, {expected} belong there")]
    Length {
        /// The column's name.
        column: &'static str,
        /// The required length.
        expected: usize,
        /// The actual length.
        got: usize,
    },
    /// One position breaks an invariant.
    #[error("position {position}: {problem}")]
    Position {
        /// Index of the position, from 0.
        position: usize,
        /// The invariant that is broken.
        problem: PositionError,
    },
}

/// An invariant of one position that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// No class was kept.
    #[error("no class was kept, at least one belongs here")]
    NoClass,
    /// The number of kept classes is not one that the truncation allows.
    #[error("{count} classes kept, {least} to {most} belong here")]
    Count {
        /// Number of classes that were kept.
        count: u16,
        /// Minimum that the truncation allows.
        least: u32,
        /// Maximum that the truncation allows.
        most: u32,
    },
    /// More sampled classes than classes, or sampled classes with a selection that samples none.
    #[error("{sampled} of {count} kept classes are said to be drawn at random")]
    Sampled {
        /// Stated number of sampled classes.
        sampled: u16,
        /// Number of classes that were kept.
        count: u16,
    },
    /// NaN or an infinity.
    #[error("a log-probability or log_z is not a finite number")]
    NotFinite,
    /// A kept class or the label is not in the vocabulary.
    #[error("class {class} is outside the vocabulary of {vocab_size}")]
    OutsideVocabulary {
        /// The class.
        class: u32,
        /// The vocabulary's size.
        vocab_size: u32,
    },
    /// The probabilities of the kept classes add up to more than 1.
    #[error("kept classes hold {mass:.4} of the probability: log_z is below their log-sum-exp")]
    LogZTooSmall {
        /// Their sum.
        mass: f64,
    },
    /// The same where log_z is not known.
    #[error("kept classes hold {mass:.4} of the probability, 1 at most belongs there")]
    TooProbable {
        /// Their sum.
        mass: f64,
    },
    /// [`Self::LogZTooLarge`] where log_z is not known.
    #[error("largest log-probability {largest} is below -ln V, that of equally probable classes")]
    TooImprobable {
        /// The largest log-probability.
        largest: f32,
    },
    /// Even the largest log-probability is below that of a uniform distribution.
    #[error("largest log-probability {largest} is below -ln V: log_z is too large")]
    LogZTooLarge {
        /// The largest log-probability.
        largest: f32,
    },
    /// A dense row must have class `i` at place `i`.
    #[error("classes of a dense row are not in their own order")]
    DenseOrder,
    /// Neighbours are in the wrong order within the deterministic or the sampled part.
    #[error("log-probabilities are not sorted, largest first and ties to the lower id")]
    Unsorted,
    /// A class was kept twice.
    #[error("class {class} is kept twice")]
    Twice {
        /// The class.
        class: u32,
    },
    /// A class of `always_keep` was not kept.
    #[error("class {class} is always kept, and missing here")]
    AlwaysKeptMissing {
        /// The class.
        class: u32,
    },
    /// Atoms are in the wrong order.
    #[error("tail atoms are not sorted, largest logit first and unused ones last")]
    TailUnsorted,
    /// The kept classes and the tail do not add up to one distribution.
    #[error("kept classes and tail hold {total:.4} of the probability, 1 belongs there")]
    Mass {
        /// Their total probability.
        total: f64,
    },
    /// The label is not at the place among the kept classes that is stated, where labels outside are not known.
    #[error(
        "label {label} is said to be {}, but the kept classes {}: this row belongs to another input",
        if *rank == crate::Gold::UNKNOWN_RANK { "outside them".to_owned() } else { format!("at {rank}") },
        found.map_or("lack it".to_owned(), |place| format!("hold it at {place}"))
    )]
    KeptLabel {
        /// The label.
        label: u32,
        /// Its stored place, or [`crate::Gold::UNKNOWN_RANK`].
        rank: u32,
        /// Its place among the kept classes, if it was kept.
        found: Option<usize>,
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
        /// Its place among the kept classes and the log-probability there, if it was kept.
        found: Option<(usize, f32)>,
    },
}
