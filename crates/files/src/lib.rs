//! Atomic file creation: a file appears under its name complete and durable, or not at all. Beside it, locks and the order
//! of numbered files.
//!
//! All data is written under a temporary name in the same folder, synced, and then renamed: a reader of the name gets
//! the old file or the new one, even after a crash or a power failure.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("summary.json");
//! logitcask_files::replace(&path, |file| file.write_all(b"{}"))?;
//! assert_eq!(std::fs::read(&path)?, b"{}");
//! # std::io::Result::Ok(())
//! ```

mod lock;
mod natural_order;

pub use lock::LockFile;
pub use natural_order::natural_order;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Prefix of the temporary names that [`replace`] uses.
const PREFIX: &str = ".new-";

/// An unfinished file under a temporary name in the folder of `path`. Dropping it deletes it.
#[derive(Debug)]
pub struct AtomicFile {
    temp: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file; its name begins with `prefix`.
    ///
    /// # Errors
    /// If the folder of `path` does not exist or cannot be written to.
    pub fn create(path: &Path, prefix: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        #[cfg(unix)]
        {
            // The umask determines who may read it, as for any file; the 0600 of temporary files would lock others out.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(Self { temp: builder.tempfile_in(folder_of(path))?, path: path.to_owned() })
    }

    /// Makes the written data durable.
    ///
    /// # Errors
    /// If the device reports an error.
    pub fn sync(&self) -> io::Result<()> {
        self.temp.as_file().sync_all()
    }

    /// Renames the file to its final name unless that exists; returns `false` if it does. [`sync_folder`] makes the
    /// name durable.
    ///
    /// # Errors
    /// If the file cannot be renamed although its name is free.
    pub fn persist_new(self) -> io::Result<bool> {
        match self.temp.persist_noclobber(&self.path) {
            Ok(_) => Ok(true),
            // The name also exists if another process finished and removed our temporary file.
            Err(_) if self.path.exists() => Ok(false),
            Err(e) => Err(e.error),
        }
    }

    /// Renames the file to its final name, replacing an existing file. [`sync_folder`] makes the name durable.
    ///
    /// # Errors
    /// If the file cannot be renamed.
    pub fn persist_over(self) -> io::Result<()> {
        self.temp.persist(&self.path).map(|_| ()).map_err(|e| e.error)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.as_file_mut().flush()
    }
}

/// Replaces a file atomically: after a crash `path` has either its previous contents or all of the new ones.
///
/// # Errors
/// Any error of `write` or the file system; `path` is then unchanged.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = AtomicFile::create(path, PREFIX)?;
    let mut buffered = BufWriter::new(&mut file);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.sync()?;
    file.persist_over()?;
    sync_folder(folder_of(path))
}

/// Makes the names in a folder durable: a new name only survives a power failure once its folder is synced.
///
/// # Errors
/// If the folder cannot be opened or the device reports an error.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Other systems cannot open folders.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"old".to_vec(), 1));
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (bytes, is_new) in [(b"first", true), (b"other", false)] {
            let mut file = AtomicFile::create(&path, ".tmp-").unwrap();
            file.write_all(bytes).unwrap();
            file.sync().unwrap();
            assert_eq!(file.persist_new().unwrap(), is_new);
        }
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"first".to_vec(), 1));
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, |file| file.write_all(b"shared")).unwrap();
        fs::write(folder.path().join("plain"), "").unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("file"), mode("plain"));
    }
}
