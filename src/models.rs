//! Opens models, wherever they are.

use crate::output::note;
use anyhow::Result;
use logitcask_hub::{Settings, find, locate};
use logitcask_model::PretrainedModel;
use std::path::{Path, PathBuf};

/// Opens a model that is a folder, a file or a name on a hub. Says what is fetched, and which commit a name stands for.
pub fn open(path: &Path) -> Result<PretrainedModel> {
    let mut on_file = |file: &str, bytes: u64| {
        note!("{}: fetching {file} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
    };
    let is_fit = |folder: &Path| Ok(PretrainedModel::check_folder(folder).map(drop)?);
    let Some(snapshot) = locate(path, &Settings::from_env(), &mut on_file, &is_fit)? else {
        return Ok(PretrainedModel::open(path)?);
    };
    note!("{} is commit {} in {}", snapshot.name, snapshot.commit, snapshot.folder.display());
    if let Some(doubt) = &snapshot.doubt {
        note!("{}: {doubt}", snapshot.name);
    }
    Ok(PretrainedModel::open_snapshot(&snapshot)?)
}

/// Where a model's files are; `None` if they are not on this machine.
pub fn on_disk(path: &Path) -> Option<PathBuf> {
    match path.exists() {
        true => Some(path.to_owned()),
        false => find(path, &Settings::from_env()).map(|snapshot| snapshot.folder),
    }
}
