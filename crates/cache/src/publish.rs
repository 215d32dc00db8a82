//! Create if absent: the one way a file gets its name in a cache. Nothing is ever overwritten.

use crate::error::{Error, Result};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// How the names of files in the making begin; nobody reads them, and [`remove_leftovers`] removes them.
const TEMP_PREFIX: &str = ".tmp-";

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
    let mut temp = builder.tempfile_in(folder).map_err(Error::io(path, "create a temporary file beside it"))?;
    temp.write_all(bytes).map_err(Error::io(path, "write its temporary file"))?;
    temp.as_file().sync_all().map_err(Error::io(path, "sync its temporary file"))?;
    let created = match temp.persist_noclobber(path) {
        Ok(_) => true,
        // Also where another worker finished and removed our temporary file: the name is taken then.
        Err(_) if path.exists() => false,
        Err(e) => return Err(Error::io(path, "name the finished file")(e.error)),
    };
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
    fs::create_dir_all(folder).map_err(Error::io(folder, "create the folder"))
}

/// Removes what killed runs left behind. Only for a cache that is complete: whoever still writes then writes a copy.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
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
