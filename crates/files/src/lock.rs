//! Lock files: a hint to other processes that somebody works on something.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A file that this process holds locked. The lock ends when this is dropped, or with the process however that ends;
/// dropping it removes the file too. A file without a lock means nothing.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _locked: File,
}

impl LockFile {
    /// Creates the file if it does not exist and locks it; returns `None` if another process holds the lock. On a file
    /// system without locks it always succeeds.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn try_hold(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Self { path: path.to_owned(), _locked: file })),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_has_one_holder_and_goes_with_it() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("claim");
        // As a killed process leaves it.
        fs::write(&path, b"")?;
        let held = LockFile::try_hold(&path)?;
        assert!(held.is_some() && LockFile::try_hold(&path)?.is_none());
        drop(held);
        assert!(!path.exists() && LockFile::try_hold(&path)?.is_some());
        Ok(())
    }
}
