//! Create if absent: the one way a file gets its name in a cache. Nothing is ever overwritten.

use crate::error::{Error, Result};
use logitcask_files::{AtomicFile, sync_folder};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

#[cfg(test)]
use crate::tests::crash::step;

/// How the names of files in the making begin; nobody reads them, and [`remove_leftovers`] removes them.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// What is about to happen to a file or folder: where tests let a process die or wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Its folder is made.
    Folder,
    /// Its temporary file is made.
    Open,
    /// The first half of its bytes is written.
    Write,
    /// The second half is.
    MidWrite,
    /// The bytes become durable.
    Sync,
    /// It gets its name.
    Name,
    /// The name becomes durable.
    SyncFolder,
    /// What killed runs left in the folder is removed.
    Clean,
}

#[cfg(not(test))]
fn step(_: Step, _: &Path) {}

/// Gives `bytes` the name `path` and makes both durable; `false` where the name was taken, whatever it holds.
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

/// Removes what killed runs left behind. Only for a cache that is complete: whoever still writes then writes a copy.
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
