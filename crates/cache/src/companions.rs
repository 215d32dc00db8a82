//! Companions: small files of the teacher that a cache stores for its students, such as end tokens, a chat template, or
//! a tokenizer's configuration. The plan lists them with their hashes; they do not affect the rows, so they are not
//! part of its id.

use crate::error::Result;
use crate::json;
use crate::names::{DATA_DIR, MANIFEST_NAME, PLAN_NAME, TOKENIZER_NAME};
use crate::pins::ArtifactRef;
use crate::store::Store;
use bytes::Bytes;
use logitcask_core::{ConfigError, Fingerprint};

/// A companion's path relative to the cache's folder, with `/` between folder and file, and its bytes.
pub type Companion<'a> = (&'a str, &'a [u8]);

/// Creates the pins of these files.
pub fn pins<'a>(files: impl IntoIterator<Item = Companion<'a>>) -> Vec<ArtifactRef> {
    let pin = |(name, bytes): Companion<'_>| ArtifactRef { name: name.to_owned(), fingerprint: Fingerprint::of(bytes) };
    let mut pins: Vec<ArtifactRef> = files.into_iter().map(pin).collect();
    pins.sort_by(|a, b| a.name.cmp(&b.name));
    pins
}

/// Rejects companions with names that a cache does not allow.
pub(crate) fn check(pins: &[ArtifactRef]) -> Result<(), ConfigError> {
    if let Some(pair) = pins.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        let got = format!("`{}` before `{}`", pair[0].name, pair[1].name);
        return Err(ConfigError::new("companions", got, "in byte order of their names, each once"));
    }
    // A companion must not be outside the folder, be hidden, or have the name of a file that the format defines.
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '_'])
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    let is_good = |name: &str| {
        let is_ours = [PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME].contains(&name) || name.starts_with(DATA_DIR);
        let is_kind = [".json", ".jinja"].iter().any(|ending| name.ends_with(ending));
        is_kind && !is_ours && name.split('/').count() <= 2 && name.split('/').all(is_plain)
    };
    match pins.iter().find(|pin| !is_good(&pin.name)) {
        None => Ok(()),
        Some(bad) => {
            let expected = "of files named NAME.json, NAME.jinja, or FOLDER/NAME of either";
            Err(ConfigError::new("companions", format!("`{}`", bad.name), expected))
        }
    }
}

/// Whether this is the file that was pinned.
pub(crate) fn is(pin: &ArtifactRef, (name, bytes): Companion<'_>) -> bool {
    pin.name == name && pin.fingerprint == Fingerprint::of(bytes)
}

/// Lays the files that are pinned where they are missing; files of other bytes are left out.
pub(crate) fn lay<'a>(
    store: &dyn Store,
    pins: &[ArtifactRef],
    files: impl IntoIterator<Item = Companion<'a>>,
) -> Result<()> {
    for (name, bytes) in files {
        if pins.iter().any(|pin| is(pin, (name, bytes))) {
            store.create(name, bytes)?;
        }
    }
    Ok(())
}

/// Reads a companion, whose bytes must have the pinned hash.
pub(crate) fn read(store: &dyn Store, pin: &ArtifactRef) -> Result<Bytes> {
    json::read_pinned(store, &pin.name, pin.fingerprint)
}
