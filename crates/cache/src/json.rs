//! JSON files, written for people but hashed in their RFC 8785 form, so that any program may rewrite them.

use crate::error::{Error, Result};
use crate::version::FORMAT_VERSION;
use logitcask_core::Fingerprint;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fs;
use std::io::Read;
use std::path::Path;

/// More than a manifest of [`crate::plan::MAX_UNITS`] shards needs; larger files are not ours and are not loaded.
const MAX_BYTES: u64 = 256 << 20;

/// Largest integer that every JSON reader interprets identically: RFC 8785 only has doubles.
pub(crate) const MAX_INTEGER: u64 = 1 << 53;

/// The bytes of a file with `value`: indented by two spaces, with a newline at the end. These bytes are not hashed.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .unwrap_or_else(|e| unreachable!("structs with text keys always serialise: {e}"));
    bytes.push(b'\n');
    bytes
}

/// BLAKE3 of the RFC 8785 form of `value`: sorted keys, no white space, numbers as JavaScript prints them.
pub(crate) fn hash<T: Serialize>(value: &T) -> Fingerprint {
    let canonical = serde_json_canonicalizer::to_vec(value)
        .unwrap_or_else(|e| unreachable!("finite numbers and text keys always have a canonical form: {e}"));
    Fingerprint::of(&canonical)
}

/// Reads the whole file, unless it is implausibly large.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(Error::io(path, "open the file"))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read the file"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::malformed(path, format!("larger than {MAX_BYTES} bytes, no cache needs that")));
    }
    Ok(bytes)
}

/// Reads the whole file, which must have the pinned hash.
pub(crate) fn read_pinned(path: &Path, pinned: Fingerprint) -> Result<Vec<u8>> {
    let bytes = read_bytes(path)?;
    match Fingerprint::of(&bytes) {
        got if got == pinned => Ok(bytes),
        got => Err(Error::Checksum { path: path.to_owned(), expected: pinned, got }),
    }
}

/// Parses the value of a file, independent of its spelling.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read_bytes(path)?).map_err(|e| malformed(path, &e))
}

/// Describes JSON that cannot be parsed. A file truncated by a crash or a copy ends in the middle.
fn malformed(path: &Path, error: &serde_json::Error) -> Error {
    Error::malformed(path, if error.is_eof() { format!("cut off: {error}") } else { error.to_string() })
}

/// Rejects another format version before its unknown fields are reported as mistakes.
pub(crate) fn check_version(path: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format_version: u32,
        /// Plans written before the format was settled have this field at the top, with the same version.
        selection: Option<IgnoredAny>,
    }
    let bytes = read_bytes(path)?;
    let got = serde_json::from_slice::<Versioned>(&bytes).map_err(|e| malformed(path, &e))?;
    if got.selection.is_some() {
        let problem = "written before the format was settled: remove the folder and run `cache` again";
        return Err(Error::malformed(path, problem));
    }
    match got.format_version {
        FORMAT_VERSION => Ok(()),
        got => Err(Error::Version { path: path.to_owned(), expected: FORMAT_VERSION, got }),
    }
}
