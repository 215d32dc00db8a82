//! Files that appear under their name whole and durable, or not at all.
//!
//! Everything is written under a temporary name in the folder of its final one, synced, and then renamed: whoever opens the
//! name finds the old file or the new one, also after a crash or a power cut.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("summary.json");
//! logitcask_files::replace(&path, |file| file.write_all(b"{}"))?;
//! assert_eq!(std::fs::read(&path)?, b"{}");
//! # std::io::Result::Ok(())
//! ```

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Prefix of the temporary names that [`replace`] uses.
const PREFIX: &str = ".new-";

/// A file that is still written, under a temporary name in the folder of `path`. Dropped, it is gone.
#[derive(Debug)]
pub struct AtomicFile {
    temp: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file; its name begins with `prefix`.
    ///
    /// # Errors
    /// Where the folder of `path` is not there or cannot be written to.
    pub fn create(path: &Path, prefix: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        #[cfg(unix)]
        {
            // The umask decides who may read, as for any file; a temporary file's own 0600 would lock others out.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(Self { temp: builder.tempfile_in(folder_of(path))?, path: path.to_owned() })
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Where the device says so.
    pub fn sync(&self) -> io::Result<()> {
        self.temp.as_file().sync_all()
    }

    /// Gives the file its name unless that is taken; `false` where it was. [`sync_folder`] makes the name durable.
    ///
    /// # Errors
    /// Where the file cannot be renamed although its name is free.
    pub fn persist_new(self) -> io::Result<bool> {
        match self.temp.persist_noclobber(&self.path) {
            Ok(_) => Ok(true),
            // Also where somebody else finished and removed our temporary file: the name is taken then.
            Err(_) if self.path.exists() => Ok(false),
            Err(e) => Err(e.error),
        }
    }

    /// Gives the file its name, in place of whatever has it. [`sync_folder`] makes the name durable.
    ///
    /// # Errors
    /// Where the file cannot be renamed.
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

/// Writes a file in place of whatever has its name: after a crash `path` holds what it held before or all of the new.
///
/// # Errors
/// What `write` returns, or what the file system says; `path` is then as it was.
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

/// Makes the names in a folder durable: a new name survives a power cut only once its folder was synced.
///
/// # Errors
/// Where the folder cannot be opened or the device says so.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Other systems do not open folders.
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
