//! One text as its source holds it, before any tokenizer has seen it.

/// A text that is not blank, with its place in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Index in the source, counted over all its files; blank documents are left out but keep their index.
    pub index: u64,
    /// The text, as the source holds it.
    pub text: String,
    /// The split that the document's column, its file's name or the card names; `None` where none does.
    pub split: Option<String>,
}
