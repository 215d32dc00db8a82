//! JSON lines, each of which may be very long.

use crate::error::{Error, Result};
use crate::source::Place;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Longest line that is read.
const MAX_LINE: u64 = 1 << 30;

/// The next line with its end; `None` after the last one.
pub(crate) fn next_line(reader: &mut BufReader<File>, path: &Path) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(Error::io(path, "read it"))?;
    match line.len() as u64 {
        0 => Ok(None),
        MAX_LINE => Err(Error::file(path, format!("a line has {MAX_LINE} bytes or more, which is too long"))),
        _ => Ok(Some(line)),
    }
}

/// The object of a line, which is to be `expected`.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8], place: &Place, expected: &str) -> Result<T> {
    serde_json::from_slice(line)
        .map_err(|error| Error::Sample { place: place.clone(), problem: format!("not {expected}: {error}") })
}
