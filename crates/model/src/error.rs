//! The errors of models.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a model, its files or its device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed: "read", "write".
        action: &'static str,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// The path does not contain a model.
    #[error(
        "{path}: {problem}. A model is a Hugging Face folder (config.json, model.safetensors), a GGUF file or a llama2.c \
         .bin file"
    )]
    NotAModel {
        /// The given path.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A Git LFS pointer instead of the file, from a checkout without Git LFS.
    #[error("{path}: is a Git LFS pointer, not the file: `git lfs pull` fetches it")]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A broken link, such as an incomplete download.
    #[error("{path}: is a link to {target}, which is not there: the download is incomplete, fetch the model again")]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
    /// The files do not form one model, or not the model that other programs would open.
    #[error("{path}: {problem}")]
    Files {
        /// The folder or one of its files.
        path: PathBuf,
        /// What was found, and a remedy.
        problem: String,
    },
    /// The target of an export must not be written to.
    #[error("{path}: {problem}")]
    Target {
        /// The folder.
        path: PathBuf,
        /// The reason, and a remedy.
        problem: String,
    },
    /// config.json has a setting that this build does not support.
    #[error("{path}: {problem}")]
    Config {
        /// The config file.
        path: PathBuf,
        /// Key, value and what is supported.
        problem: String,
    },
    /// A tensor that the architecture needs is missing.
    #[error("{path}: tensor `{name}` of shape {expected:?} is missing")]
    MissingTensor {
        /// The weights.
        path: PathBuf,
        /// Its Hugging Face name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// The weights contain tensors that are not part of the architecture.
    #[error(
        "{path}: tensor `{name}` has no place in this architecture ({count} such); is config.json the one it was saved with?"
    )]
    ExtraTensor {
        /// The weights.
        path: PathBuf,
        /// The name of the first of them.
        name: String,
        /// Number of such tensors.
        count: usize,
    },
    /// A tensor has the wrong shape.
    #[error("{path}: tensor `{name}` has shape {got:?}, config.json asks for {expected:?}")]
    Shape {
        /// The weights.
        path: PathBuf,
        /// Its name.
        name: String,
        /// The shape that the config requires.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// The values of a tensor cannot be used.
    #[error("{path}: tensor `{name}`: {problem}")]
    Tensor {
        /// The weights.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A GGUF file cannot be read.
    #[error(transparent)]
    Gguf(#[from] logitcask_gguf::Error),
    /// A model that is named by `ORG/NAME` is not there.
    #[error(transparent)]
    Hub(#[from] logitcask_hub::Error),
    /// A key of a recipe does not fit the model.
    #[error(transparent)]
    Refused(#[from] logitcask_core::ConfigError),
    /// The requested device does not exist or lacks a feature.
    #[error("device `{asked}`: {problem}")]
    Device {
        /// The request, as written on the command line.
        asked: String,
        /// The reason, and what is available instead.
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
