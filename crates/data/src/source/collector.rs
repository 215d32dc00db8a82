//! Collects the documents of a source.

use super::{DataFile, Found, OnBadText, Sink, Tally, check_split};
use crate::document::{Content, Document};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Seek;
use std::path::Path;

/// Counts all documents and passes on those that are not blank.
pub(super) struct Collector<'a> {
    pub(super) limit: u64,
    pub(super) on_bad_text: OnBadText,
    pub(super) tally: Tally,
    /// Index of the file that is read.
    pub(super) number: usize,
    /// Another handle of it, which shares the reader's position.
    pub(super) reader: Option<File>,
    pub(super) sink: Sink<'a>,
}

impl Collector<'_> {
    /// Follows the position of `reader`, which reads the current file.
    pub(super) fn follow(&mut self, reader: &File) {
        self.reader = reader.try_clone().ok();
    }

    pub(super) fn is_full(&self, file: &DataFile) -> bool {
        self.tally.of_split.get(&file.split).is_some_and(|kept| *kept >= self.limit)
    }

    /// Adds a document; `column` is the split that the document itself names.
    pub(super) fn push(&mut self, file: &DataFile, content: Option<Content>, column: Option<String>) -> Result<()> {
        let row = self.tally.seen - self.tally.files.last().map_or(0, |(first, _)| *first);
        if let Some(column) = &column {
            check_split(&file.path, row, column)?;
        }
        let split = match (column, &file.split) {
            (Some(column), Some(file_split)) if column != *file_split => {
                let (path, file) = (file.path.clone(), file_split.clone());
                return Err(Error::SplitContradicted { path, document: row, column, file });
            }
            (Some(column), _) => Some(column),
            (None, file_split) => file_split.clone(),
        };
        let index = self.tally.seen;
        self.tally.seen += 1;
        match content {
            None => {}
            Some(content) if content.is_blank() => self.tally.blank += 1,
            Some(content) => {
                match self.tally.of_split.get_mut(&file.split) {
                    Some(kept) => *kept += 1,
                    None => _ = self.tally.of_split.insert(file.split.clone(), 1),
                }
                let bytes_read = self.reader.as_mut().and_then(|reader| reader.stream_position().ok()).unwrap_or(0);
                let document = Document { index, content, split };
                (self.sink)(Found { document, file: self.number, row, bytes_read })?;
            }
        }
        Ok(())
    }

    /// Decodes `bytes` as text, handling invalid ones as configured; returns `None` for a text to be left out.
    pub(super) fn text(
        &mut self,
        path: &Path,
        bytes: &[u8],
        place: impl FnOnce(usize) -> String,
    ) -> Result<Option<String>> {
        let bad = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(Some(text.to_owned())),
            Err(e) => e.valid_up_to(),
        };
        let problem = || "not UTF-8 (Latin-1, perhaps: iconv -f latin1 -t utf-8 FILE > NEW)".to_owned();
        self.bad(path, || place(bad), problem)?;
        Ok((self.on_bad_text == OnBadText::Replace).then(|| String::from_utf8_lossy(bytes).into_owned()))
    }

    /// Counts a text that is not valid Unicode, or rejects it.
    pub(super) fn bad(
        &mut self,
        path: &Path,
        place: impl FnOnce() -> String,
        problem: impl FnOnce() -> String,
    ) -> Result<()> {
        match self.on_bad_text {
            OnBadText::Refuse => {
                return Err(Error::BadText { path: path.to_owned(), place: place(), problem: problem() });
            }
            OnBadText::Replace => self.tally.replaced += 1,
            OnBadText::Skip => self.tally.skipped += 1,
        }
        Ok(())
    }
}
