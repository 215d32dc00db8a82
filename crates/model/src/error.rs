//! What can be wrong with a model that somebody hands us.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a model, its files or the device it should run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: "read", "write".
        action: &'static str,
        /// Its reason.
        reason: std::io::Error,
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
    /// What a checkout without Git LFS has in a file's place.
    #[error("{path}: is a Git LFS pointer, not the file: `git lfs pull` fetches it")]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A link to nothing: half of a download.
    #[error("{path}: is a link to {target}, which is not there: the download is incomplete, fetch the model again")]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What it points at.
        target: PathBuf,
    },
    /// Files of a model that do not make up one model, or not the one that other programs would open.
    #[error("{path}: {problem}")]
    Files {
        /// The folder or one of its files.
        path: PathBuf,
        /// What is found, and what to do.
        problem: String,
    },
    /// A place that an export may not write to.
    #[error("{path}: {problem}")]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why, and what to do.
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
        move |reason| Self::Io { path, action, reason }
    }
}
