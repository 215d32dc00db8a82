//! What was counted while a source was read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbers of documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) seen: u64,
    /// Those that are not blank, of each split that files name; `None` is the key of all others.
    pub(crate) of_split: BTreeMap<Option<String>, u64>,
    pub(crate) blank: u64,
    pub(crate) replaced: u64,
    pub(crate) skipped: u64,
    /// Every file that was read, with the number of documents before it.
    pub(crate) files: Vec<(u64, PathBuf)>,
}

impl Tally {
    /// Number of documents that are not blank.
    pub(crate) fn kept(&self) -> u64 {
        self.of_split.values().sum()
    }

    /// Notes in plain sentences about texts that were mended or left out.
    pub(super) fn notes(&self, path: &Path) -> Vec<String> {
        let counts = [
            (self.replaced, "is no Unicode and was mended with U+FFFD", "are no Unicode and were mended with U+FFFD"),
            (self.skipped, "is no Unicode and was left out", "are no Unicode and were left out"),
            (self.blank, "is blank and was left out", "are blank and were left out"),
        ];
        let note = |(count, one, many): (u64, &str, &str)| match count {
            0 => None,
            1 => Some(format!("{}: 1 text of {} {one}", path.display(), self.seen)),
            _ => Some(format!("{}: {count} texts of {} {many}", path.display(), self.seen)),
        };
        counts.into_iter().filter_map(note).collect()
    }
}
