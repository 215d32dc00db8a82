//! One text as stored in its source, before tokenisation.

/// A text that is not blank, with its index in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Index in the source, counted over all its files; blank documents are left out but keep their index.
    pub index: u64,
    /// The text, as stored in the source.
    pub text: String,
    /// The split given by the document's column, its file's name or the card; `None` if there is none.
    pub split: Option<String>,
}
