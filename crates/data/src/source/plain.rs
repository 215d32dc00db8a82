//! Plain text: blocks between blank lines, or whole files.

use super::lines::Lines;
use super::{Collector, DataFile, DatasetConfig};
use crate::document::Content;
use crate::error::{Error, Result};

/// Reads the documents of a file. Line endings are converted to `\n`; the last line of a document has none.
pub(super) fn read(file: &DataFile, config: &DatasetConfig, whole: bool, found: &mut Collector<'_>) -> Result<()> {
    if let Some(column) = &config.split_column {
        let (path, column, found) = (file.path.clone(), column.clone(), "nothing but text".to_owned());
        return Err(Error::Column { path, column, found, option: "split_column" });
    }
    if let Some(column) = &config.tokens_column {
        let (path, column, found) = (file.path.clone(), column.clone(), "nothing but text".to_owned());
        return Err(Error::Column { path, column, found, option: "tokens_column" });
    }
    let mut lines = Lines::open(&file.path)?;
    found.follow(lines.file());
    let mut block = Block { text: vec![], length: 0, first: 1, lines: 0 };
    while let Some((number, line)) = lines.next()? {
        let is_blank = std::str::from_utf8(line).is_ok_and(|line| line.trim().is_empty());
        if !whole && is_blank {
            block.push(file, found)?;
            if found.is_full(file) {
                return Ok(());
            }
            block.first = number + 1;
        } else {
            block.add(line, is_blank);
        }
    }
    if whole {
        // An empty file is a blank document.
        block.lines = block.lines.max(1);
    }
    block.push(file, found)
}

/// Consecutive lines of a file that become one document.
struct Block {
    /// The lines, joined by `\n`.
    text: Vec<u8>,
    /// Length of `text` up to the last line that is not blank.
    length: usize,
    /// Number of the first line in the file.
    first: usize,
    lines: usize,
}

impl Block {
    fn add(&mut self, line: &[u8], is_blank: bool) {
        if self.lines > 0 {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        self.lines += 1;
        if !is_blank {
            self.length = self.text.len();
        }
    }

    /// Passes on the document, if there is one, and begins another block.
    fn push(&mut self, file: &DataFile, found: &mut Collector<'_>) -> Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        let (text, first) = (&self.text[..self.length], self.first);
        let place = |byte: usize| {
            let before = &text[..byte];
            let line = before.iter().filter(|byte| **byte == b'\n').count();
            let byte = before.len() - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            format!("line {} from its byte {byte} on", first + line)
        };
        let text = found.text(&file.path, text, place)?;
        (self.lines, self.length) = (0, 0);
        self.text.clear();
        found.push(file, text.map(Content::Text), None)
    }
}
