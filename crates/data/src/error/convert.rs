//! Conversion of the errors of other libraries.

use super::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), cause }
    }

    /// For `map_err` on errors of the Parquet and Arrow libraries.
    pub(crate) fn parquet<E: Display>(path: &Path) -> impl Fn(E) -> Self {
        move |cause| {
            let words = cause.to_string();
            // Each layer of the libraries adds its own prefix.
            let layers = ["Parquet argument error: ", "Parquet error: ", "External: "];
            let mut cause = words.as_str();
            while let Some(inner) = layers.iter().find_map(|layer| cause.strip_prefix(layer)) {
                cause = inner;
            }
            Self::Table { path: path.to_owned(), format: "Parquet", cause: cause.to_owned() }
        }
    }

    /// For `map_err` on errors of the tokenizer library.
    pub(crate) fn tokenizer<E: Display>(cause: E) -> Self {
        Self::Tokenizer { problem: cause.to_string() }
    }
}
