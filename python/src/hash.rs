//! Hashes that pin what a cache is made from.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// BLAKE3 of the content, as 64 hex digits.
#[pyfunction]
pub(crate) fn hash_bytes(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

/// BLAKE3 of the hashes of files, and of all files in folders, in the order of their names.
#[pyfunction]
pub(crate) fn hash_files(py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<String> {
    py.detach(|| {
        let mut all = blake3::Hasher::new();
        for path in paths {
            let mut files = Vec::new();
            list(&path, &mut files).map_err(|error| failed(&path, &error))?;
            files.sort();
            for file in files {
                let mut one = blake3::Hasher::new();
                let open = fs::File::open(&file).and_then(|content| one.update_reader(content).map(|_| ()));
                open.map_err(|error| failed(&file, &error))?;
                let name = file.strip_prefix(&path).unwrap_or(&file);
                all.update(name.to_string_lossy().as_bytes()).update(b"\0").update(one.finalize().as_bytes());
            }
        }
        Ok(all.finalize().to_hex().to_string())
    })
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| list(&entry?.path(), files))
}

fn failed(path: &Path, error: &std::io::Error) -> PyErr {
    PyOSError::new_err(format!("{}: cannot be read: {error}", path.display()))
}
