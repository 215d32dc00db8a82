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
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                // The last holder may have removed the file since it was opened: then another process can create and lock
                // a new one, and this lock is of a file without a name.
                Ok(()) if !is_at(&file, path) => {}
                Ok(()) | Err(TryLockError::Error(_)) => {
                    return Ok(Some(Self { path: path.to_owned(), _locked: file }));
                }
            }
        }
    }
}

/// Whether the file is the one that now has this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).ok().zip(fs::metadata(path).map(id).ok()).is_some_and(|(ours, there)| ours == there)
}

/// The standard library does not tell other systems' files apart.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
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

    /// Threads take a lock and let it go as fast as they can. A lock belongs to an open file, so that threads exclude each
    /// other as processes do.
    #[test]
    fn there_are_never_two_holders() -> io::Result<()> {
        use std::sync::atomic::{AtomicU32, Ordering};
        let folder = tempfile::tempdir()?;
        let (path, holders, held) = (folder.path().join("claim"), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let work = || -> io::Result<()> {
                for _ in 0..20_000 {
                    if let Some(lock) = LockFile::try_hold(&path)? {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                        held.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                }
                Ok(())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        assert!(held.into_inner() > 0);
        Ok(())
    }
}
