//! Plain text: blocks between blank lines, or whole files.

use super::{Collector, DataFile, DatasetConfig, read_bytes};
use crate::document::Content;
use crate::error::{Error, Result};

/// Reads the documents of a file. Line endings are converted to `\n`; the last line of a document has none.
pub(super) fn read(file: &DataFile, config: &DatasetConfig, whole: bool, found: &mut Collector) -> Result<()> {
    if let Some(column) = &config.split_column {
        let (path, column, found) = (file.path.clone(), column.clone(), "nothing but text".to_owned());
        return Err(Error::Column { path, column, found, option: "split_column" });
    }
    if let Some(column) = &config.tokens_column {
        let (path, column, found) = (file.path.clone(), column.clone(), "nothing but text".to_owned());
        return Err(Error::Column { path, column, found, option: "tokens_column" });
    }
    let bytes = read_bytes(&file.path)?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // The empty string after the last line ending is not a line.
    lines.pop_if(|last| last.is_empty());
    let is_blank = |line: &&[u8]| std::str::from_utf8(line).is_ok_and(|line| line.trim().is_empty());
    if whole {
        let mut lines = lines.as_slice();
        while let [rest @ .., last] = lines
            && is_blank(last)
        {
            lines = rest;
        }
        return push(file, lines, 1, found);
    }
    let mut number = 1;
    for block in lines.split(is_blank) {
        if found.is_full(file) {
            break;
        }
        if !block.is_empty() {
            push(file, block, number, found)?;
        }
        number += block.len() + 1;
    }
    Ok(())
}

/// Adds one document from `lines`; `first` is the number of its first line in the file.
fn push(file: &DataFile, lines: &[&[u8]], first: usize, found: &mut Collector) -> Result<()> {
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let text = lines.join(&b'\n');
    let place = |byte: usize| {
        let before = &text[..byte];
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let byte = before.len() - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        format!("line {} from its byte {byte} on", first + line)
    };
    let text = found.text(&file.path, &text, place)?;
    found.push(file, text.map(Content::Text), None)
}
