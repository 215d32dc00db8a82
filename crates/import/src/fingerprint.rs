//! The identity of another tool's files.

use crate::error::{Error, Result};
use logitcask_core::Fingerprint;
use serde::Serialize;
use std::fs::File;
use std::path::Path;

/// Context of the hashes: another one whenever the same files would give other rows.
const CONTEXT: &str = "logitcask import v1";

/// BLAKE3 keyed by [`CONTEXT`] over the format's name, the JSON of how the files are read, and the hash of each file's
/// bytes, in order. Names of files do not matter.
pub(crate) fn of_files<'a>(
    format: &str,
    reading: &impl Serialize,
    files: impl IntoIterator<Item = &'a Path>,
) -> Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    add(&mut hasher, format.as_bytes());
    add(&mut hasher, serde_json::to_string(reading).unwrap_or_default().as_bytes());
    for path in files {
        let mut of_file = blake3::Hasher::new();
        let read = File::open(path).and_then(|file| of_file.update_reader(file).map(drop));
        read.map_err(Error::io(path, "read it"))?;
        hasher.update(of_file.finalize().as_bytes());
    }
    Ok(hasher.finalize().into())
}

/// BLAKE3 keyed by [`CONTEXT`] over the JSON of `rules`, and the name and hash of every split.
pub(crate) fn of_splits<'a>(
    rules: &impl Serialize,
    splits: impl IntoIterator<Item = (&'a str, Fingerprint)>,
) -> Fingerprint {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    add(&mut hasher, serde_json::to_string(rules).unwrap_or_default().as_bytes());
    for (name, fingerprint) in splits {
        add(&mut hasher, name.as_bytes());
        add(&mut hasher, fingerprint.to_string().as_bytes());
    }
    hasher.finalize().into()
}

/// A string is its length in bytes, followed by its bytes.
fn add(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}
