//! Folders that `save_to_disk` of Hugging Face's `datasets` wrote: Arrow files beside a `state.json` that lists them, and
//! for several splits a `dataset_dict.json` above a folder for each.

use super::data_file::{DataFile, Entry};
use super::{is_split_name, read_file};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// Files that describe such a folder, and hold no texts.
pub(super) const DESCRIPTIONS: [&str; 3] = [STATE, "dataset_info.json", DICT];
const STATE: &str = "state.json";
const DICT: &str = "dataset_dict.json";

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<StateFile>,
    #[serde(rename = "_indices_data_files", default)]
    indices: Option<Vec<StateFile>>,
}

#[derive(Deserialize)]
struct StateFile {
    filename: String,
}

#[derive(Deserialize)]
struct Dict {
    splits: Vec<String>,
}

/// Names of the Arrow files of a folder that has a `state.json`; others there are results that `datasets` computed from
/// them. `None` without one.
pub(super) fn data_files(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(STATE);
    if !path.is_file() {
        return Ok(None);
    }
    let refused = |problem: String| Error::Folder { path: path.clone(), problem };
    // Other programs also call files so.
    let Ok(state) = serde_json::from_slice::<State>(&read_file(&path)?) else { return Ok(None) };
    if state.indices.is_some_and(|indices| !indices.is_empty()) {
        return Err(refused(
            "selects rows by a file of indices; save the dataset again after `flatten_indices()`".to_owned(),
        ));
    }
    let names: Vec<String> = state.data_files.into_iter().map(|file| file.filename).collect();
    match names.iter().find(|name| !folder.join(name).is_file()) {
        Some(missing) => Err(refused(format!("lists `{missing}`, which is not there; copy or save the dataset again"))),
        None => Ok(Some(names)),
    }
}

/// The files of a folder with a `dataset_dict.json`, each with the split that its folder is; `None` without one.
pub(super) fn by_split(folder: &Path, entries: &[Entry]) -> Result<Option<Vec<DataFile>>> {
    let path = folder.join(DICT);
    if !path.is_file() {
        return Ok(None);
    }
    let refused = |problem: String| Error::Folder { path: path.clone(), problem };
    let dict: Dict = serde_json::from_slice(&read_file(&path)?)
        .map_err(|e| refused(format!("does not list `splits`: {e}; save the dataset again")))?;
    if let Some(name) = dict.splits.iter().find(|name| !is_split_name(name)) {
        return Err(refused(format!(
            "names the split `{name}`, expected 1 to 64 lower-case letters, digits, `-` and `_`"
        )));
    }
    let mut files = vec![];
    for split in &dict.splits {
        let before = files.len();
        let below = |relative: &str| relative.strip_prefix(split.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let of_split = entries.iter().filter(|(relative, _)| below(relative));
        files.extend(of_split.map(|(_, path)| DataFile { path: path.clone(), split: Some(split.clone()) }));
        if files.len() == before {
            return Err(refused(format!(
                "names the split `{split}`, of which no file is there; copy the dataset again"
            )));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(files))
}
