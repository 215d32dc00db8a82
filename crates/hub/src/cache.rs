//! The cache of snapshots on disk.

use crate::name::is_commit;
use crate::{Error, HubName, Result, Settings};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Files beside config.json and the weights, as far as a model has them.
pub(crate) const SMALL: [&str; 7] = [
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The name it was found by.
    pub name: HubName,
    /// The commit that its files are of.
    pub commit: String,
    /// The folder with the files.
    pub folder: PathBuf,
    /// Which files it lacks that the model may have, and why that is not known.
    pub doubt: Option<String>,
}

/// The folder of a commit.
pub(crate) fn snapshot_folder(name: &HubName, commit: &str, settings: &Settings) -> PathBuf {
    settings.cache.join(name.folder()).join("snapshots").join(commit)
}

/// The folder with the names of files that a commit does not have, as Hugging Face's tools keep it.
pub(crate) fn absent_folder(name: &HubName, commit: &str, settings: &Settings) -> PathBuf {
    settings.cache.join(name.folder()).join(".no_exist").join(commit)
}

/// The small files that the snapshot lacks and that are not known to be absent from the model.
pub(crate) fn unknown(snapshot: &Snapshot, settings: &Settings) -> Vec<&'static str> {
    let absent = absent_folder(&snapshot.name, &snapshot.commit, settings);
    SMALL.into_iter().filter(|file| !has(&snapshot.folder, file) && !has(&absent, file)).collect()
}

/// The file that holds the commit of a branch or tag.
pub(crate) fn reference(name: &HubName, settings: &Settings) -> PathBuf {
    settings.cache.join(name.folder()).join("refs").join(name.revision())
}

/// The snapshot of this revision, whether or not it is complete.
pub(crate) fn find(name: &HubName, settings: &Settings) -> Result<Option<Snapshot>> {
    let commit = match is_commit(name.revision()) {
        true => name.revision().to_owned(),
        false => {
            let path = reference(name, settings);
            match fs::read_to_string(&path) {
                Ok(commit) => commit.trim().to_owned(),
                Err(reason) if reason.kind() == ErrorKind::NotFound => return Ok(None),
                Err(reason) => return Err(Error::Io { path, action: "read it", reason }),
            }
        }
    };
    let folder = snapshot_folder(name, &commit, settings);
    let is_there = is_commit(&commit) && folder.is_dir();
    Ok(is_there.then(|| Snapshot { name: name.clone(), commit, folder, doubt: None }))
}

/// The first file that a model cannot do without and the folder does not have.
pub(crate) fn missing(folder: &Path) -> Option<String> {
    if !has(folder, CONFIG) {
        return Some(CONFIG.to_owned());
    }
    if !has(folder, INDEX) {
        return (!has(folder, WEIGHTS)).then(|| WEIGHTS.to_owned());
    }
    // A damaged index is reported when the model is opened.
    let index = fs::read(folder.join(INDEX)).unwrap_or_default();
    shards(&index).into_iter().flatten().find(|shard| !has(folder, shard))
}

/// Whether the folder has the file; a link to nothing does not count.
pub(crate) fn has(folder: &Path, file: &str) -> bool {
    folder.join(file).exists()
}

/// The files that an index of weights names; `None` if it is not an index, or names a file elsewhere.
pub(crate) fn shards(index: &[u8]) -> Option<BTreeSet<String>> {
    let index: Value = serde_json::from_slice(index).ok()?;
    let map = index.get("weight_map")?.as_object()?;
    let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    map.values().map(|shard| shard.as_str().filter(|name| is_plain(name)).map(str::to_owned)).collect()
}

/// The error for a model that the cache does not have and that must not be fetched.
pub(crate) fn not_there(name: &HubName, settings: &Settings) -> Error {
    let place = match is_commit(name.revision()) {
        true => snapshot_folder(name, name.revision(), settings),
        false => reference(name, settings),
    };
    Error::Missing { name: name.to_string(), place, remedy: remedy(name, settings) }
}

/// The error for an incomplete snapshot that must not be completed.
pub(crate) fn incomplete(snapshot: &Snapshot, settings: &Settings) -> Error {
    let Snapshot { name, folder, .. } = snapshot;
    let file = missing(folder).unwrap_or_default();
    Error::Incomplete { name: name.to_string(), folder: folder.clone(), file, remedy: remedy(name, settings) }
}

fn remedy(name: &HubName, settings: &Settings) -> String {
    let command = format!("hf download {} --revision {}", name.id(), name.revision());
    format!("{}, or fetch it elsewhere (`{command}`)", settings.why_not())
}
