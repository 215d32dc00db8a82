//! The files of a source.

use std::path::PathBuf;

/// A file of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    /// The split of all its documents, if its name or the card determines it.
    pub(crate) split: Option<String>,
}

/// A path relative to the folder, written with `/`, and the full path.
pub(super) type Entry = (String, PathBuf);
