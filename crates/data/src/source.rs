//! Where documents come from: Parquet, JSON Lines or plain text, one file or a folder of them.

mod jsonl;
mod parquet;
mod plain;
#[cfg(test)]
mod tests;

pub use parquet::write_corpus;

use crate::document::Document;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Which texts to read. A file is read by its extension:
/// - `.parquet`: one document per row, from a column of strings;
/// - `.jsonl`, `.ndjson`: one object per line, from a field of it;
/// - `.txt`: one document per block between blank lines; in a folder, one document per file.
///
/// A folder's files are read in byte order of their names; folders in it, hidden files and `.md` files are passed over.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A file or a folder.
    pub path: PathBuf,
    /// Column or field that holds the text.
    #[serde(default = "default_text_column")]
    pub text_column: String,
    /// Column or field that names each document's split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// Share of the documents that make up the split `test` where no column names splits. A hash of the text decides, so
    /// that the choice survives added documents and never parts two copies of one text.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// Stop after so many documents that are not blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<u64>,
}

impl DatasetConfig {
    /// All of `path`, column `text`, with every other setting at its default.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            text_column: default_text_column(),
            split_column: None,
            held_out: default_held_out(),
            max_documents: None,
        }
    }
}

fn default_text_column() -> String {
    "text".to_owned()
}

fn default_held_out() -> f64 {
    0.05
}

/// Reads the documents of a file or folder, always in the same order.
///
/// # Errors
/// A path, file, column or option that cannot be used, with what to do about it; no documents at all.
pub fn read_documents(config: &DatasetConfig) -> Result<Vec<Document>> {
    if !(0.0..=1.0).contains(&config.held_out) {
        let (got, expected) = (config.held_out.to_string(), "a share within 0..=1");
        return Err(Error::Option { option: "held_out", got, expected });
    }
    if config.max_documents == Some(0) {
        return Err(Error::Option { option: "max_documents", got: "0".into(), expected: "at least 1, or no limit" });
    }
    let path = &config.path;
    let mut found = Collector { limit: config.max_documents.unwrap_or(u64::MAX), seen: 0, kept: vec![] };
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::Missing { path: path.clone() }),
        Err(e) => return Err(Error::io(path)(e)),
        Ok(metadata) if metadata.is_dir() => {
            for file in files_of(path)? {
                read_file(&file, config, true, &mut found)?;
            }
        }
        Ok(_) => read_file(path, config, false, &mut found)?,
    }
    if found.kept.is_empty() {
        return Err(Error::Empty { path: path.clone(), blank: found.seen });
    }
    Ok(found.kept)
}

/// Files of a folder that may hold documents, in byte order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !is_hidden && path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(files)
}

fn read_file(path: &Path, config: &DatasetConfig, in_folder: bool, found: &mut Collector) -> Result<()> {
    if found.is_full() {
        return Ok(());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => parquet::read(path, config, found),
        Some("jsonl" | "ndjson") => jsonl::read(path, config, found),
        Some("txt") => plain::read(path, config, in_folder, found),
        _ => Err(Error::Extension { path: path.to_owned() }),
    }
}

/// Documents found so far: numbers all of them, keeps those that are not blank.
struct Collector {
    limit: u64,
    seen: u64,
    kept: Vec<Document>,
}

impl Collector {
    fn is_full(&self) -> bool {
        self.kept.len() as u64 >= self.limit
    }

    fn push(&mut self, text: String, split: Option<String>) {
        if !text.trim().is_empty() {
            self.kept.push(Document { index: self.seen, text, split });
        }
        self.seen += 1;
    }
}

/// A split's name becomes part of file names and of a table's headings.
fn check_split(path: &Path, document: u64, name: &str) -> Result<()> {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(Error::SplitName { path: path.to_owned(), document, got: name.to_owned() });
    }
    Ok(())
}

/// The whole file as text, a byte order mark left out.
fn read_utf8(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::Utf8 { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
