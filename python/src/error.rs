//! Errors of the cache as Python exceptions. Their text is that of the Rust error.

use logitcask_cache::Error;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyIndexError, PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;

create_exception!(logitcask, CacheError, PyException, "A cache that cannot be read or written.");
create_exception!(logitcask, NotACacheError, CacheError, "The folder has no cache.");
create_exception!(logitcask, UnfinishedError, CacheError, "The cache is not complete.");
create_exception!(logitcask, DamagedError, CacheError, "A file of the cache is not what was written.");
create_exception!(logitcask, VersionError, CacheError, "The cache has another format version.");
create_exception!(logitcask, PlanError, CacheError, "A plan that cannot be written, or is not that of the cache.");
create_exception!(logitcask, RowError, CacheError, "A row that must not be written.");

/// The exception of an error.
pub(crate) fn exception(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { .. } => PyOSError::new_err(text),
        Error::NotACache { .. } => NotACacheError::new_err(text),
        Error::Unfinished { .. } => UnfinishedError::new_err(text),
        Error::Version { .. } => VersionError::new_err(text),
        Error::BadPlan { .. } | Error::OtherPlan { .. } | Error::Occupied { .. } => PlanError::new_err(text),
        Error::BadRow { .. } => RowError::new_err(text),
        Error::NoSplit { .. } | Error::NoExtra { .. } => PyKeyError::new_err(text),
        Error::NoSample { .. } => PyIndexError::new_err(text),
        Error::Checksum { .. } | Error::Damaged { .. } | Error::Size { .. } | Error::Malformed { .. } => {
            DamagedError::new_err(text)
        }
        _ => CacheError::new_err(text),
    }
}

/// A `ValueError` with this text.
pub(crate) fn invalid(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

/// Adds the exceptions to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("CacheError", py.get_type::<CacheError>())?;
    module.add("NotACacheError", py.get_type::<NotACacheError>())?;
    module.add("UnfinishedError", py.get_type::<UnfinishedError>())?;
    module.add("DamagedError", py.get_type::<DamagedError>())?;
    module.add("VersionError", py.get_type::<VersionError>())?;
    module.add("PlanError", py.get_type::<PlanError>())?;
    module.add("RowError", py.get_type::<RowError>())
}
