//! Numbers from another framework.

use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/golden")
}

/// The folder of the numbers: LOGITCASK_GOLDEN, which can have numbers of other rows, or the repository's own.
pub fn reference_folder() -> PathBuf {
    std::env::var_os("LOGITCASK_GOLDEN").map_or_else(folder, PathBuf::from)
}

pub fn read(name: &str) -> Value {
    read_from(&folder(), name)
}

pub fn read_from(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// |got - wanted| <= absolute + relative · |wanted|.
pub fn assert_close(got: f64, wanted: f64, relative: f64, absolute: f64, what: &str) {
    assert!((got - wanted).abs() <= absolute + relative * wanted.abs(), "{what}: {got}, expected {wanted}");
}
