//! Which files there are, and in which order.

use crate::{Error, Result};
use logitcask_files::natural_order;
use std::path::{Path, PathBuf};

/// The file itself, or the files of a folder whose names end in `.safetensors`, in their [`natural_order`].
///
/// # Errors
/// [`Error::HiddenStates`] if nothing is there, or a folder has no such file or cannot be read.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return match path.exists() {
            true => Ok(vec![path.to_owned()]),
            false => Err(Error::states(path, "there is no such file or folder")),
        };
    }
    let failed = |error: std::io::Error| Error::states(path, format!("cannot list it: {error}"));
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::states(path, "no file in this folder has a name that ends in .safetensors"));
    }
    files.sort_by(|a, b| natural_order(a, b));
    Ok(files)
}
