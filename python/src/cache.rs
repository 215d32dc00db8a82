//! A finished cache, its samples and batches of them.

use crate::batch::{Batch, Shape};
use crate::columns;
use crate::error::{exception, invalid};
use logitcask_cache::{CacheReader, Storage, Tier, verify};
use logitcask_core::SampleId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict};
use std::path::PathBuf;

/// A finished cache.
#[pyclass(frozen, module = "logitcask._core")]
pub(crate) struct Cache {
    pub(crate) reader: CacheReader,
    /// Names of the extra columns that are decoded.
    pub(crate) extras: Vec<String>,
}

#[pymethods]
impl Cache {
    /// Opens the cache in `folder`, whose samples have the numbers of the named extra columns.
    #[new]
    #[pyo3(signature = (folder, extras = Vec::new(), mapped = true))]
    fn new(py: Python<'_>, folder: PathBuf, extras: Vec<String>, mapped: bool) -> PyResult<Self> {
        // SAFETY: the package documents that no shard may be modified or truncated while a cache is open; every writer of
        // the format keeps to that, because a shard gets its name when it is complete and is never written again.
        let storage = if mapped { unsafe { Storage::mapped() } } else { Storage::READ };
        let names: Vec<&str> = extras.iter().map(String::as_str).collect();
        let open = || CacheReader::open_with(&folder, storage)?.with_extras(&names);
        let reader = py.detach(open).map_err(exception)?;
        Ok(Self { reader, extras })
    }

    /// The hash of all rows, as 64 hex digits.
    #[getter]
    fn cache_id(&self) -> String {
        self.reader.cache_id().to_string()
    }

    /// The plan as JSON.
    #[getter]
    fn plan(&self) -> PyResult<String> {
        serde_json::to_string(self.reader.plan()).map_err(|error| invalid(error.to_string()))
    }

    /// The totals of the manifest as JSON.
    #[getter]
    fn totals(&self) -> PyResult<String> {
        serde_json::to_string(&self.reader.manifest().totals).map_err(|error| invalid(error.to_string()))
    }

    /// Number of samples of each split, in the plan's order.
    #[getter]
    fn splits(&self) -> PyResult<Vec<(String, u64)>> {
        let splits = self.reader.splits().into_iter();
        splits.map(|name| Ok((name.to_owned(), self.reader.len(name).map_err(exception)?))).collect()
    }

    /// The path of the tokenizer's file.
    #[getter]
    fn tokenizer_path(&self) -> PathBuf {
        self.reader.tokenizer_path()
    }

    /// Name and bytes of the files of the teacher that the cache stores for its students.
    fn companions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let files = PyDict::new(py);
        for (name, bytes) in self.reader.companions().map_err(exception)? {
            files.set_item(name, PyBytes::new(py, &bytes))?;
        }
        Ok(files)
    }

    /// The samples with these ids as a batch.
    #[pyo3(signature = (split, ids, classes = None, max_length = None, packed = false))]
    fn batch<'py>(
        &self,
        py: Python<'py>,
        split: &str,
        ids: Vec<u64>,
        classes: Option<usize>,
        max_length: Option<usize>,
        packed: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let shape = self.shape(classes, max_length, packed)?;
        let read = || -> logitcask_cache::Result<Batch> {
            let get = |id: u64| Ok((self.reader.get(split, SampleId(id))?, 0));
            Ok(Batch::new(ids.into_iter().map(get).collect::<logitcask_cache::Result<_>>()?, shape))
        };
        py.detach(read).map_err(exception)?.into_arrays(py, &self.extras)
    }

    /// log Z at the temperature, entropy in nats and tail mass of every position of a sample, in f64.
    fn statistics(&self, py: Python<'_>, split: &str, id: u64, temperature: f64) -> PyResult<Vec<(f64, f64, f64)>> {
        let get = || self.reader.get(split, SampleId(id));
        let sample = py.detach(get).map_err(exception)?;
        let of = |row: logitcask_core::SoftRow<'_>| {
            (row.log_z_at(temperature), row.entropy(temperature), row.tail_mass(temperature))
        };
        Ok(sample.rows.iter().map(of).collect())
    }

    /// A split as an Arrow C stream of the plain layout's columns, `rows` samples in each batch.
    fn arrow_stream<'py>(&self, py: Python<'py>, split: &str, rows: u64) -> PyResult<Bound<'py, PyCapsule>> {
        columns::stream(py, &self.reader, split, rows)
    }

    /// The problems that a complete check of every hash and row finds, as sentences; empty if the cache is whole.
    fn verify(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let folder = self.reader.folder().to_owned();
        let check = || verify(&folder, Tier::Rows, &mut |_, _| {});
        let report = py.detach(check).map_err(exception)?;
        Ok(report.findings.iter().map(ToString::to_string).collect())
    }
}

impl Cache {
    /// How batches of this cache are laid out.
    pub(crate) fn shape(&self, classes: Option<usize>, max_length: Option<usize>, packed: bool) -> PyResult<Shape> {
        if classes == Some(0) {
            return Err(invalid("classes = 0 was given, but it must be at least 1, or None for all that are kept"));
        }
        if classes.is_some() && self.reader.plan().keep.is_sampled() {
            return Err(invalid("classes was given, but this cache has drawn classes: a draw has no shorter prefix"));
        }
        if let Some(length) = max_length.filter(|length| *length < 2) {
            return Err(invalid(format!("max_length = {length} was given, but it must be at least 2, or None")));
        }
        Ok(Shape { classes, max_length, packed })
    }
}
