//! Python bindings: `logitcask._core`. What users call is in `python/logitcask/`, which wraps these classes.

mod batch;
mod cache;
mod columns;
mod error;
mod hash;
mod select;
mod stream;
mod writer;

use pyo3::prelude::*;

/// Arrays of batches are given back and asked for again all the time; glibc goes to the kernel for each of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The compiled part of the package.
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<cache::Cache>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<writer::Writer>()?;
    module.add("FORMAT_VERSION", logitcask_cache::FORMAT_VERSION)?;
    module.add("CODEC_VERSION", logitcask_cache::CODEC_VERSION)?;
    module.add("SELECTION_VERSION", logitcask_select::SELECTION_VERSION)?;
    module.add_function(wrap_pyfunction!(hash::hash_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(hash::hash_files, module)?)?;
    error::add(module)
}
