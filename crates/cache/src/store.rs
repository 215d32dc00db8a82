//! All input and output of the format: a folder, or anything else that keeps objects under names.

mod claim;
mod local;

pub use claim::Claim;
pub use local::LocalStore;

use crate::error::{Error, Result};
use bytes::Bytes;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is known about an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last changed, if the store knows. Bytes of an object with the same length and time are hashed once.
    pub modified: Option<SystemTime>,
}

/// Where a cache is kept: objects under names such as `data/train-00007-of-00042.parquet`, which are relative to the
/// cache and separate folders by `/`.
///
/// The required operations are those of object stores. An object is created once, as with a put on condition that the
/// name is free, and never changed. The provided ones are for stores that can do more.
pub trait Store: fmt::Debug + Send + Sync {
    /// What the store is called in messages: for a local one, the folder.
    fn location(&self) -> &Path;

    /// Creates an object if none has its name; returns `false` if one has, whatever it holds. The object appears whole
    /// or not at all, and is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created although the name is free; the same error for the other operations.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// Reads a whole object, which must not have more than `most` bytes.
    ///
    /// # Errors
    /// [`Error::Io`], with the kind `NotFound` if it does not exist; [`Error::Malformed`] if it is larger.
    fn get(&self, name: &str, most: u64) -> Result<Bytes>;

    /// Reads a range of an object's bytes, all of which must exist.
    ///
    /// # Errors
    /// [`Error::Io`], with the kind `NotFound` if it does not exist and `UnexpectedEof` if it ends before the range.
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes>;

    /// Calls `each` with the name of every object and folder directly in `folder`, without the folder's name and in any
    /// order; `""` is the top. A folder that does not exist is empty.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn list(&self, folder: &str, each: &mut dyn FnMut(&str)) -> Result<()>;

    /// The length of an object, and when it was changed; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`] if the store cannot tell.
    fn meta(&self, name: &str) -> Result<Option<ObjectMeta>>;

    /// Removes an object, which only a repair does; returns `false` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn remove(&self, name: &str) -> Result<bool>;

    /// Creates these folders, in a store whose folders do not come with their objects.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn create_folders(&self, _folders: &[&str]) -> Result<()> {
        Ok(())
    }

    /// All bytes of an object without a copy, in a store that maps files into memory; `None` in others.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn map(&self, _name: &str) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Claims a name for this process until the claim is dropped; `None` if another process has claimed it. A store that
    /// cannot say grants every claim: two workers may then do the same work, of which the first is kept.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn claim(&self, _name: &str) -> Result<Option<Claim>> {
        Ok(Some(Claim::none()))
    }

    /// Removes what killed processes left of unfinished objects in `folder`. Only called for a complete cache, where
    /// remaining writers would only write duplicates.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn remove_leftovers(&self, _folder: &str) -> Result<()> {
        Ok(())
    }

    /// The name of an object in messages.
    fn path(&self, name: &str) -> PathBuf {
        self.location().join(name)
    }
}

/// Whether an object exists.
pub(crate) fn exists(store: &dyn Store, name: &str) -> Result<bool> {
    Ok(store.meta(name)?.is_some())
}

/// The length of an object that must exist.
pub(crate) fn existing_meta(store: &dyn Store, name: &str) -> Result<ObjectMeta> {
    let missing = || {
        Error::io(&store.path(name), "find the file")(io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    };
    store.meta(name)?.ok_or_else(missing)
}

/// Rejects an object that does not exist or has another length.
pub(crate) fn check_length(store: &dyn Store, name: &str, expected: u64) -> Result<ObjectMeta> {
    let found = existing_meta(store, name)?;
    if found.bytes == expected {
        Ok(found)
    } else {
        Err(Error::Size { path: store.path(name), expected, got: found.bytes })
    }
}
