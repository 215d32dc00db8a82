//! Atomic creation of files: the only way in which a file of a cache gets its name. Nothing is ever overwritten.

use crate::error::{Error, Result};
use logitcask_files::{AtomicFile, sync_folder};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

#[cfg(test)]
use crate::tests::crash::step;

/// Prefix of the names of unfinished files; nobody reads them, and [`remove_leftovers`] removes them.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// The next step in the creation of a file or folder, at which tests kill or delay a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Its folder is created.
    Folder,
    /// Its temporary file is created.
    Open,
    /// The first half of its bytes is written.
    Write,
    /// The second half is.
    MidWrite,
    /// The bytes become durable.
    Sync,
    /// It is renamed to its final name.
    Name,
    /// The name becomes durable.
    SyncFolder,
    /// Temporary files of killed runs are removed from the folder.
    Clean,
}

#[cfg(not(test))]
fn step(_: Step, _: &Path) {}

/// Creates `path` with `bytes` and makes both name and bytes durable; returns `false` if the name already exists,
/// whatever it holds.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    step(Step::Open, path);
    let mut temp =
        AtomicFile::create(path, TEMP_PREFIX).map_err(Error::io(path, "create a temporary file beside it"))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (half, at) in [(first, Step::Write), (second, Step::MidWrite)] {
        step(at, path);
        temp.write_all(half).map_err(Error::io(path, "write its temporary file"))?;
    }
    step(Step::Sync, path);
    temp.sync().map_err(Error::io(path, "sync its temporary file"))?;
    step(Step::Name, path);
    let created = temp.persist_new().map_err(Error::io(path, "name the finished file"))?;
    step(Step::SyncFolder, path);
    let folder = path.parent().unwrap_or(Path::new("."));
    sync_folder(folder).map_err(Error::io(folder, "sync the folder"))?;
    Ok(created)
}

/// Creates a folder and its parents.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    step(Step::Folder, folder);
    fs::create_dir_all(folder).map_err(Error::io(folder, "create the folder"))
}

/// Removes temporary files of killed runs. Only valid for a complete cache, where remaining writers would only write
/// duplicates.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    step(Step::Clean, folder);
    let action = "remove the temporary files of killed runs";
    for entry in fs::read_dir(folder).map_err(Error::io(folder, action))? {
        let entry = entry.map_err(Error::io(folder, action))?;
        if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
            match fs::remove_file(entry.path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io(&entry.path(), action)(e)),
                _ => {}
            }
        }
    }
    Ok(())
}
