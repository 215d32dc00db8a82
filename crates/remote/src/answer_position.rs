//! One position of a server's answer.

/// A class at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The class.
    pub class: u32,
    /// Its log-probability in nats; NaN if the server gave no number.
    pub log_prob: f64,
    /// Number of classes that are at least as probable, itself included, if the server gives it. Servers may count
    /// only some of its equals.
    pub rank: Option<u64>,
}

/// One position of an answer: the entries for the token that follows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerPosition {
    /// The likeliest classes in any order, and the label, which some servers leave out unless it is one of these.
    pub entries: Vec<Entry>,
    /// The label's log-probability, if the server gives it apart from the entries.
    pub label_log_prob: Option<f64>,
}
