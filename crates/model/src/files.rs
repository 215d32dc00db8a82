//! Opening the files of a model's folder, and telling what lies there in a file's place.

use crate::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

/// Largest file that is read whole: the tokenizers and indices of the largest models have some tens of megabytes.
const WHOLE_LIMIT: u64 = 256 << 20;
/// Git LFS writes pointers of some 130 bytes and promises less than 1024.
const POINTER_LIMIT: u64 = 1024;
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Is anything there under this name? A link to nothing is something: half of a download.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A file and its length in bytes. Refuses a link to nothing and a Git LFS pointer.
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

/// The bytes of a small file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    let problem = || Error::Files {
        path: path.to_owned(),
        problem: format!("has {length} bytes; a file of this name has at most {WHOLE_LIMIT}"),
    };
    let mut bytes = Vec::new();
    // A file that grows, or a pipe, which has no length, is as little to be trusted as a long one.
    file.take(WHOLE_LIMIT + 1).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > WHOLE_LIMIT { Err(problem()) } else { Ok(bytes) }
}

/// Names of everything in a folder, sorted; names that are not UTF-8 are none of ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(Error::io(folder, "list"))? {
        let entry = entry.map_err(Error::io(folder, "list"))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
