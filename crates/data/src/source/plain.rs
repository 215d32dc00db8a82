//! Plain text: blocks between blank lines, or whole files.

use super::{Collector, DatasetConfig, read_utf8};
use crate::error::{Error, Result};
use std::path::Path;

/// Lines end in `\n` in what comes out, whatever they ended in; the last one of a document has no end.
pub(super) fn read(path: &Path, config: &DatasetConfig, whole: bool, found: &mut Collector) -> Result<()> {
    if let Some(column) = &config.split_column {
        let found = "nothing but text".to_owned();
        return Err(Error::Column { path: path.to_owned(), column: column.clone(), found, option: "split_column" });
    }
    let text = read_utf8(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let is_blank = |line: &&str| line.trim().is_empty();
    if whole {
        let mut lines = lines.as_slice();
        while let [rest @ .., last] = lines
            && is_blank(last)
        {
            lines = rest;
        }
        found.push(lines.join("\n"), None);
        return Ok(());
    }
    for block in lines.split(is_blank).filter(|block| !block.is_empty()) {
        if found.is_full() {
            break;
        }
        found.push(block.join("\n"), None);
    }
    Ok(())
}
