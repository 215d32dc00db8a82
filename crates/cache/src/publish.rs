//! Create if absent: the one way a file gets its name in a cache. Nothing is ever overwritten.

use crate::error::{Error, Result};
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
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMP_PREFIX);
    #[cfg(unix)]
    {
        // The umask decides who may read, as for any file; a temporary file's own 0600 would lock others out.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    step(Step::Open, path);
    let mut temp = builder.tempfile_in(folder).map_err(Error::io(path, "create a temporary file beside it"))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (half, at) in [(first, Step::Write), (second, Step::MidWrite)] {
        step(at, path);
        temp.write_all(half).map_err(Error::io(path, "write its temporary file"))?;
    }
    step(Step::Sync, path);
    temp.as_file().sync_all().map_err(Error::io(path, "sync its temporary file"))?;
    step(Step::Name, path);
    let created = match temp.persist_noclobber(path) {
        Ok(_) => true,
        // Also where another worker finished and removed our temporary file: the name is taken then.
        Err(_) if path.exists() => false,
        Err(e) => return Err(Error::io(path, "name the finished file")(e.error)),
    };
    step(Step::SyncFolder, path);
    sync_folder(folder)?;
    Ok(created)
}

/// A name survives a power cut only once its folder was synced.
fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder, "sync the folder"))?;
    Ok(())
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
