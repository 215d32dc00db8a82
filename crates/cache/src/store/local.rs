//! The local store: a folder.

use super::{Claim, ObjectMeta, Store};
use crate::error::{Error, Result};
use crate::publish;
use crate::storage::Storage;
use bytes::Bytes;
use logitcask_files::LockFile;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A cache in a folder of the file system.
#[derive(Clone, Debug)]
pub struct LocalStore {
    folder: PathBuf,
    storage: Storage,
}

impl LocalStore {
    /// The cache in `folder`, whose shards are held as `storage` says.
    pub fn new(folder: &Path, storage: Storage) -> Self {
        Self { folder: folder.to_owned(), storage }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Store for LocalStore {
    fn location(&self) -> &Path {
        &self.folder
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            publish::create_folder(folder)?;
        }
        publish::create(&path, bytes)
    }

    fn get(&self, name: &str, most: u64) -> Result<Bytes> {
        let (path, mut bytes) = (self.path(name), Vec::new());
        let file = File::open(&path).map_err(Error::io(&path, "open the file"))?;
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(&path, "read the file"))?;
        if bytes.len() as u64 > most {
            return Err(Error::malformed(&path, format!("larger than {most} bytes, no cache needs that")));
        }
        Ok(bytes.into())
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(name);
        let mut file = File::open(&path).map_err(Error::io(&path, "open the file"))?;
        let length = file.metadata().map_err(Error::io(&path, "find the file"))?.len();
        let read = |file: &mut File| {
            if range.end > length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
            file.seek(SeekFrom::Start(range.start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        };
        read(&mut file).map_err(Error::io(&path, "read the file"))
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(&str)) -> Result<()> {
        let path = self.path(folder);
        let entries = match fs::read_dir(&path) {
            Err(error) if is_missing(&error) => return Ok(()),
            entries => entries.map_err(Error::io(&path, "list the folder"))?,
        };
        for entry in entries {
            each(&entry.map_err(Error::io(&path, "list the folder"))?.file_name().to_string_lossy());
        }
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<Option<ObjectMeta>> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(ObjectMeta { bytes: metadata.len(), modified: metadata.modified().ok() })),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Error::io(&path, "look for the file")(error)),
        }
    }

    fn remove(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(Error::io(&path, "remove the file")(error)),
        }
    }

    fn create_folders(&self, folders: &[&str]) -> Result<()> {
        folders.iter().try_for_each(|folder| publish::create_folder(&self.path(folder)))
    }

    fn map(&self, name: &str) -> Result<Option<Bytes>> {
        self.storage.map(&self.path(name))
    }

    fn claim(&self, name: &str) -> Result<Option<Claim>> {
        let path = self.path(name);
        // `CacheWriter::finish` removes a file that a killed process left.
        let held = LockFile::try_hold(&path).map_err(Error::io(&path, "create the claim"))?;
        Ok(held.map(Claim::of))
    }

    fn remove_leftovers(&self, folder: &str) -> Result<()> {
        publish::remove_leftovers(&self.path(folder))
    }
}
