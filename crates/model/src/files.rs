//! Opening files in a model's folder, and detection of links and pointers in their place.

use crate::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

/// Largest file that is read whole: the tokenizers and indices of the largest models have a few tens of megabytes.
const WHOLE_LIMIT: u64 = 256 << 20;
/// Git LFS writes pointers of about 130 bytes and guarantees less than 1024.
const POINTER_LIMIT: u64 = 1024;
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether anything has this name; a broken link, such as an incomplete download, counts.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Opens a file and returns its length in bytes. Rejects a broken link and a Git LFS pointer.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let mut file = File::open(path).map_err(|error| match (error.kind(), path.read_link()) {
        (ErrorKind::NotFound, Ok(target)) => Error::DanglingLink { path: path.to_owned(), target },
        _ => Error::io(path, "open")(error),
    })?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    if length < POINTER_LIMIT {
        let mut start = Vec::new();
        file.by_ref().take(POINTER.len() as u64).read_to_end(&mut start).map_err(Error::io(path, "read"))?;
        if start == POINTER {
            return Err(Error::Pointer { path: path.to_owned() });
        }
        file.rewind().map_err(Error::io(path, "read"))?;
    }
    Ok((file, length))
}

/// Reads a small file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let problem = || Error::Files {
        path: path.to_owned(),
        problem: format!("has {length} bytes; a file of this name has at most {WHOLE_LIMIT}"),
    };
    let mut bytes = Vec::new();
    // A growing file, or a pipe, which has no length, is limited in the same way as a long file.
    file.take(WHOLE_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > WHOLE_LIMIT { Err(problem()) } else { Ok(bytes) }
}

/// Names of all entries of a folder, sorted; names that are not UTF-8 are skipped.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(Error::io(folder, "list"))? {
        let entry = entry.map_err(Error::io(folder, "list"))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
