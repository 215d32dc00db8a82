//! A folder with a list of its files, so that later damage or truncation is detected.

use crate::{Error, Result};
use logitcask_core::Fingerprint;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

/// Name of the list of the other files.
const CONTENTS: &str = "contents.json";

/// contents.json.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    files: Vec<Entry>,
}

/// An entry of the list, for one file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    name: String,
    bytes: u64,
    pub(crate) blake3: Fingerprint,
}

impl Entry {
    /// Measures and hashes a file as it is now.
    pub(crate) fn of(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let mut hasher = blake3::Hasher::new();
        let hashed = File::open(&path).and_then(|file| hasher.update_reader(file).map(|hasher| hasher.finalize()));
        let blake3 = hashed.map_err(Error::io(&path, "hash"))?.into();
        let bytes = fs::metadata(&path).map_err(Error::io(&path, "read"))?.len();
        Ok(Self { name: name.to_owned(), bytes, blake3 })
    }
}

impl Contents {
    /// Lists the files of `folder` with these names, and makes them, the list and their names durable.
    pub(crate) fn write(folder: &Path, names: impl Iterator<Item = &'static str> + Clone) -> Result<()> {
        let files = names.clone().map(|name| Entry::of(folder, name)).collect::<Result<_>>()?;
        let path = folder.join(CONTENTS);
        let json = serde_json::to_vec_pretty(&Self { files });
        let json = json.map_err(|e| Error::Unwritten { path: path.clone(), problem: e.to_string() })?;
        fs::write(&path, json).map_err(Error::io(&path, "write"))?;
        for name in names.chain([CONTENTS]) {
            let path = folder.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path, "sync"))?;
        }
        sync_folder(folder)
    }

    /// Reads the list of a folder.
    pub(crate) fn read(folder: &Path) -> std::result::Result<Self, String> {
        read_json(folder, CONTENTS)
    }

    /// Returns how a file of `folder` differs from its entry.
    pub(crate) fn check(&self, folder: &Path, name: &str) -> std::result::Result<(), String> {
        let listed = self.files.iter().find(|entry| entry.name == name);
        let listed = listed.ok_or_else(|| format!("{CONTENTS} does not list {name}"))?;
        let bytes = fs::metadata(folder.join(name)).map_err(|e| format!("{name}: {e}"))?.len();
        if bytes != listed.bytes {
            return Err(format!("{name} has {bytes} bytes, {} were written", listed.bytes));
        }
        let found = Entry::of(folder, name).map_err(|e| e.to_string())?.blake3;
        match found == listed.blake3 {
            true => Ok(()),
            false => Err(format!("{name} has the BLAKE3 {}, {} was written", found.short(), listed.blake3.short())),
        }
    }
}

/// Reads a JSON file; the error names it.
pub(crate) fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> std::result::Result<T, String> {
    let bytes = fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}"))
}

/// Removes a folder if it exists.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(folder, "remove")(e)),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    logitcask_files::sync_folder(folder).map_err(Error::io(folder, "sync the folder"))
}
