//! JSON files, written for people but hashed in their RFC 8785 form, so that any program may rewrite them.

use crate::error::{Error, Result};
use crate::store::Store;
use crate::version::FORMAT_VERSION;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum size of a JSON file: more than the manifest of [`crate::plan::MAX_UNITS`] shards needs. Larger files are not
/// ours and are not loaded.
pub const MAX_JSON_BYTES: u64 = 256 << 20;

/// Largest integer that every JSON reader interprets identically: RFC 8785 only has doubles.
pub(crate) const MAX_INTEGER: u64 = 1 << 53;

/// The bytes of a file with `value`: indented by two spaces, with a newline at the end. These bytes are not hashed.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .unwrap_or_else(|e| unreachable!("structs with text keys always serialise: {e}"));
    bytes.push(b'\n');
    bytes
}

/// The bytes of a file with a list: a line for each item, which a program reads faster than [`to_bytes`].
pub(crate) fn to_lines<T: Serialize>(items: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, item) in items.iter().enumerate() {
        bytes.extend_from_slice(if number == 0 { b"[\n" } else { b",\n" });
        serde_json::to_writer(&mut bytes, item)
            .unwrap_or_else(|e| unreachable!("structs with text keys always serialise: {e}"));
    }
    bytes.extend_from_slice(if items.is_empty() { b"[]\n" } else { b"\n]\n" });
    bytes
}

/// BLAKE3 of the RFC 8785 form of `value`: sorted keys, no white space, numbers as JavaScript prints them.
pub(crate) fn hash<T: Serialize>(value: &T) -> Fingerprint {
    let canonical = serde_json_canonicalizer::to_vec(value)
        .unwrap_or_else(|e| unreachable!("finite numbers and text keys always have a canonical form: {e}"));
    Fingerprint::of(&canonical)
}

/// Reads the whole file, unless it is implausibly large.
pub(crate) fn read_bytes(store: &dyn Store, name: &str) -> Result<Bytes> {
    store.get(name, MAX_JSON_BYTES)
}

/// Reads the whole file, which must have the pinned hash.
pub(crate) fn read_pinned(store: &dyn Store, name: &str, pinned: Fingerprint) -> Result<Bytes> {
    let bytes = read_bytes(store, name)?;
    match Fingerprint::of(&bytes) {
        got if got == pinned => Ok(bytes),
        got => Err(Error::Checksum { path: store.path(name), expected: pinned, got }),
    }
}

/// Parses the value of a file, independent of its spelling.
pub(crate) fn read<T: DeserializeOwned>(store: &dyn Store, name: &str) -> Result<T> {
    parse(store, name, &read_bytes(store, name)?)
}

/// Parses the value of a file that states its format version. Another version is rejected before its unknown fields are
/// reported as mistakes.
pub(crate) fn read_versioned<T: DeserializeOwned>(store: &dyn Store, name: &str) -> Result<T> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format_version: u32,
    }
    let bytes = read_bytes(store, name)?;
    match parse::<Versioned>(store, name, &bytes)?.format_version {
        FORMAT_VERSION => parse(store, name, &bytes),
        got => Err(Error::Version { path: store.path(name), expected: FORMAT_VERSION, got }),
    }
}

/// A file truncated by a crash or a copy ends in the middle.
fn parse<T: DeserializeOwned>(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let cut = if error.is_eof() { "cut off: " } else { "" };
        Error::malformed(&store.path(name), format!("{cut}{error}"))
    })
}
