//! The one way this crate writes and reads JSON: pretty, newline at the end, the same bytes for the same value.

use crate::error::{Error, Result};
use crate::plan::FORMAT_VERSION;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fs;
use std::io::Read;
use std::path::Path;

/// More than a manifest of [`crate::plan::MAX_UNITS`] shards needs; anything larger is not ours and is not loaded.
const MAX_BYTES: u64 = 256 << 20;

/// The canonical bytes of `value`, which every hash of a plan or manifest is taken over.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .unwrap_or_else(|e| unreachable!("structs with text keys always serialise: {e}"));
    bytes.push(b'\n');
    bytes
}

/// The whole file, unless it is implausibly large.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(Error::io(path, "open the file"))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read the file"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::malformed(path, format!("larger than {MAX_BYTES} bytes, no cache needs that")));
    }
    Ok(bytes)
}

/// The value that canonical bytes describe; other bytes with the same meaning are refused, so that the file's hash and
/// the value's are one.
pub(crate) fn read<T: Serialize + DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_bytes(path)?;
    let value: T = serde_json::from_slice(&bytes).map_err(|e| Error::malformed(path, e.to_string()))?;
    if to_bytes(&value) != bytes {
        return Err(Error::malformed(path, "not written as a cache writes it: the file was edited"));
    }
    Ok(value)
}

/// Refuses another format version before its unknown fields are called mistakes.
pub(crate) fn check_version(path: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format_version: u32,
        /// Plans had it at the top, and the same version, before the format was settled.
        selection: Option<IgnoredAny>,
    }
    let bytes = read_bytes(path)?;
    let got = serde_json::from_slice::<Versioned>(&bytes).map_err(|e| Error::malformed(path, e.to_string()))?;
    if got.selection.is_some() {
        let problem = "written before the format was settled: remove the folder and run `cache` again";
        return Err(Error::malformed(path, problem));
    }
    match got.format_version {
        FORMAT_VERSION => Ok(()),
        got => Err(Error::Version { path: path.to_owned(), expected: FORMAT_VERSION, got }),
    }
}
