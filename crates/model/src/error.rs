//! What can be wrong with a model that somebody hands us.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a model, its files or the device it should run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: "read", "write".
        action: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
    /// Nothing a model can be read from.
    #[error(
        "{path}: {problem}. A model is a Hugging Face folder (config.json, model.safetensors) or a llama2.c .bin file"
    )]
    NotAModel {
        /// What was given.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A setting of config.json that this build cannot honour.
    #[error("{path}: {problem}")]
    Config {
        /// The config file.
        path: PathBuf,
        /// Key, value and what is supported.
        problem: String,
    },
    /// A tensor the architecture needs is absent.
    #[error("{path}: tensor `{name}` of shape {expected:?} is missing")]
    MissingTensor {
        /// The weights.
        path: PathBuf,
        /// Its Hugging Face name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// Tensors the architecture has no place for.
    #[error(
        "{path}: tensor `{name}` has no place in this architecture ({count} such); is config.json the one it was saved with?"
    )]
    ExtraTensor {
        /// The weights.
        path: PathBuf,
        /// The first of them.
        name: String,
        /// How many.
        count: usize,
    },
    /// A tensor of another shape.
    #[error("{path}: tensor `{name}` has shape {got:?}, config.json asks for {expected:?}")]
    Shape {
        /// The weights.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What the config asks for.
        expected: Vec<usize>,
        /// What the file holds.
        got: Vec<usize>,
    },
    /// A tensor's numbers cannot be used.
    #[error("{path}: tensor `{name}`: {problem}")]
    Tensor {
        /// The weights.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The device asked for does not exist or cannot do what is asked.
    #[error("device `{asked}`: {problem}")]
    Device {
        /// As written on the command line.
        asked: String,
        /// What there is instead.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Io`] from `source`, for `map_err`.
    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
