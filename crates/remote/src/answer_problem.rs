//! Why what a server tells of a position is not what the model says there.

/// What to do where the model itself gives a class no probability.
const LEAVE_OUT: &str = "if the model itself rules it out, take this text out of the dataset, or this position with marks \
                         ([dataset] mask_column or labels_column)";

/// Why what a server tells of a position is not what the model says there at T = 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerProblem {
    /// A prompt without an answer, or with several.
    #[error("the answer has {got} choices for this prompt, 1 is expected")]
    Choices {
        /// Number of choices with the prompt's index.
        got: usize,
    },
    /// The answer has no log-probabilities at all.
    #[error("the answer has no `{key}`; the server may not offer it: try another [teacher] interface")]
    Missing {
        /// The key that should have them.
        key: &'static str,
    },
    /// The answer does not say which tokens it is for.
    #[error(
        "the answer does not say which tokens it is for (`prompt_token_ids`), so that it cannot be compared with what \
         was sent; vLLM says it since version 0.10.2, and older ones can be asked with interface = \"echo\""
    )]
    NoTokenIds,
    /// The answer is for other tokens.
    #[error("the answer is for another prompt: token {index} of it is {}, {sent} was sent", shown(.got))]
    OtherToken {
        /// Index of the token.
        index: usize,
        /// The token of the prompt.
        sent: String,
        /// The token that the server names, if it has so many.
        got: Option<String>,
    },
    /// The answer has another number of positions than the prompt.
    #[error("the answer has log-probabilities for {got} tokens, {expected} were sent")]
    Positions {
        /// Number of tokens of the prompt.
        expected: usize,
        /// Number of tokens of the answer.
        got: usize,
    },
    /// A position without entries.
    #[error("the answer has no log-probabilities here")]
    NoEntries,
    /// A class that is named by its text.
    #[error(
        "a class is named by its text {text:?}, and several classes can have one text; the server must name them by \
         their ids (`return_tokens_as_token_ids`)"
    )]
    Text {
        /// The text.
        text: String,
    },
    /// A class outside the vocabulary.
    #[error(
        "class {class} is outside the vocabulary of {vocab_size} tokens; the tokenizer may belong to another model"
    )]
    OutsideVocabulary {
        /// The class.
        class: u32,
        /// Number of the tokenizer's tokens.
        vocab_size: u32,
    },
    /// A class that is listed twice.
    #[error("class {class} is listed twice")]
    Twice {
        /// The class.
        class: u32,
    },
    /// A log-probability that is no finite number.
    #[error(
        "class {class} has a log-probability that is no finite number: the server masks it, or the model's numbers \
         overflow; {}",
        LEAVE_OUT
    )]
    NotFinite {
        /// The class.
        class: u32,
    },
    /// A class that the server masked.
    #[error(
        "class {class} has log-probability {log_prob}, with which servers mask classes; the server must give the \
         log-probabilities of the model itself, without top_p, min_p, biases or lists of forbidden tokens; {}",
        LEAVE_OUT
    )]
    Masked {
        /// The class.
        class: u32,
        /// Its log-probability.
        log_prob: f64,
    },
    /// Another number of classes than were asked for.
    #[error("{got} classes are listed where the {k} likeliest and the label were asked for")]
    Count {
        /// Number of classes.
        got: usize,
        /// Number of likeliest classes that were asked for.
        k: usize,
    },
    /// The label is not listed.
    #[error("the next token, {label}, is not listed: these are log-probabilities of another position or prompt")]
    NoLabel {
        /// The label.
        label: u32,
    },
    /// Label and entries contradict each other.
    #[error(
        "the next token, {label}, has log-probability {log_prob}, which does not fit the other classes: these are \
         log-probabilities of another position or prompt"
    )]
    Label {
        /// The label.
        label: u32,
        /// Its log-probability.
        log_prob: f64,
    },
    /// The label's rank contradicts its place among the entries.
    #[error("the next token, {label}, has rank {rank}, but {before} of the listed classes are likelier")]
    Rank {
        /// The label.
        label: u32,
        /// The rank that the server gives, from 1.
        rank: u64,
        /// Number of listed classes that are likelier.
        before: usize,
    },
    /// The label's rank is not told.
    #[error("the next token, {label}, has no rank; the server may only serve interface = \"echo\"")]
    NoRank {
        /// The label.
        label: u32,
    },
    /// Probabilities that add up to more than 1.
    #[error(
        "the likeliest classes hold {mass:.4} of the probability, 1 at most belongs there: these are not \
         log-probabilities at T = 1; start vLLM with --logprobs-mode raw_logprobs"
    )]
    TooProbable {
        /// Their total probability.
        mass: f64,
    },
    /// Probabilities that cannot add up to 1.
    #[error(
        "the likeliest classes hold {mass:.4} of the probability, and all others at most {rest:.4}, since none is \
         likelier than the last of them: these are not log-probabilities at T = 1"
    )]
    TooImprobable {
        /// Total probability of the likeliest classes.
        mass: f64,
        /// Upper bound of that of all others.
        rest: f64,
    },
    /// A log-probability that a cache cannot store.
    #[error("class {class} has log-probability {log_prob}, which is too small to be encoded")]
    TooSmall {
        /// The class.
        class: u32,
        /// Its log-probability.
        log_prob: f64,
    },
}

fn shown(token: &Option<String>) -> &str {
    token.as_deref().unwrap_or("missing")
}
