//! Detection of a model's format, and opening it.

use crate::families::object;
use crate::weights::{self, Llama2cWeights, SafetensorsWeights, WeightSource};
use crate::{Companions, Error, Model, ModelConfig, Precision, Result, companions, files, identity};
use burn::tensor::Device;
use logitcask_core::Fingerprint;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracing::info;

/// Location of the tokenizer that belongs to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// Hugging Face's tokenizer.json.
    Json(PathBuf),
    /// llama2.c's tokenizer.bin.
    Llama2c(PathBuf),
}

/// A model on disk whose config was read, but not its weights.
pub struct PretrainedModel {
    path: PathBuf,
    config: ModelConfig,
    source: Box<dyn WeightSource + Send + Sync>,
    tokenizer: TokenizerSource,
}

impl PretrainedModel {
    /// Detects a Hugging Face folder or a llama2.c file, reads its config, and checks without reading the weights that
    /// they are complete and match it.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::Files`] or [`Error::Config`] if it is not a model that this build can open;
    /// [`Error::MissingTensor`], [`Error::ExtraTensor`], [`Error::Shape`] or [`Error::Tensor`] if the weights do not
    /// match the config; [`Error::Io`], [`Error::Pointer`] or [`Error::DanglingLink`] if a file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let files = if path.is_dir() { Self::open_folder(path)? } else { Self::open_file(path)? };
        weights::check(&files.config, files.source.as_ref())?;
        let (parameters, classes) = (files.config.parameters(), files.config.vocab_size());
        info!(path = %path.display(), family = files.config.model_type().name(), parameters, classes, "model opened");
        Ok(files)
    }

    fn open_file(path: &Path) -> Result<Self> {
        if !files::is_there(path) {
            let problem = "there is no such file or folder".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), problem });
        }
        let weights = Llama2cWeights::open(path)?;
        let tokenizer = TokenizerSource::Llama2c(path.with_file_name("tokenizer.bin"));
        let config = weights.config().clone();
        Self { path: path.to_owned(), config, source: Box::new(weights), tokenizer }.with_whole_tokenizer()
    }

    fn open_folder(path: &Path) -> Result<Self> {
        companions::refuse_adapter(path)?;
        let config_path = path.join("config.json");
        if !files::is_there(&config_path) {
            let problem = "the folder has no config.json".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), problem });
        }
        companions::check(path)?;
        let config = ModelConfig::read(&config_path)?;
        let weights = SafetensorsWeights::open(path)?;
        let tokenizer = TokenizerSource::Json(path.join("tokenizer.json"));
        Self { path: path.to_owned(), config, source: Box::new(weights), tokenizer }.with_whole_tokenizer()
    }

    /// A model may have no tokenizer, but not an incomplete one.
    fn with_whole_tokenizer(self) -> Result<Self> {
        let (TokenizerSource::Json(path) | TokenizerSource::Llama2c(path)) = &self.tokenizer;
        if files::is_there(path) {
            files::open(path)?;
        }
        Ok(self)
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Location of the tokenizer next to the weights, whether or not it exists.
    pub fn tokenizer(&self) -> &TokenizerSource {
        &self.tokenizer
    }

    /// A readable name: the folder's name, or the file's without its extension.
    pub fn name(&self) -> String {
        let stem = if self.path.is_dir() { self.path.file_name() } else { self.path.file_stem() };
        stem.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Hash of everything that affects the logits: models with the same fingerprint have the same logits. [`identity`]
    /// defines it.
    ///
    /// # Errors
    /// The same as for [`Self::open`], because all of the weights are read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        identity::fingerprint(&self.config, self.source.as_ref())
    }

    /// The files next to the weights that are copied with them to another folder.
    ///
    /// # Errors
    /// The same as for [`Companions::from_folder`]; [`Error::Config`] if config.json is no longer a JSON object.
    pub fn companions(&self) -> Result<Companions> {
        if self.path.is_dir() {
            let config = object(&self.path.join("config.json"))?;
            return Ok(Companions::from_folder(&self.path)?.with_config(&config));
        }
        Ok(Companions::default().with_config(&self.config.to_hf("float32")))
    }

    /// Reads the weights onto `device`.
    ///
    /// # Errors
    /// [`Error::Device`] if `device` cannot compute in `precision`; [`Error::Tensor`] names a weight that is not
    /// finite; [`Error::Io`].
    pub fn load(&self, device: &Device, precision: Precision) -> Result<Model> {
        let start = Instant::now();
        let model = weights::load(&self.config, self.source.as_ref(), device, precision.dtype(device)?)?;
        info!(path = %self.path.display(), %precision, seconds = start.elapsed().as_secs_f64(), "weights loaded");
        Ok(model)
    }
}
