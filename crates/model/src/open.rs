//! Finding out what a path holds, and opening it.

use crate::families::object;
use crate::weights::{self, Llama2cWeights, SafetensorsWeights, WeightSource};
use crate::{Companions, Error, Model, ModelConfig, Precision, Result, companions, files, identity};
use burn::tensor::Device;
use logitcask_core::Fingerprint;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tracing::info;

/// Where the tokenizer that belongs to a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// Hugging Face's tokenizer.json.
    Json(PathBuf),
    /// llama2.c's tokenizer.bin.
    Llama2c(PathBuf),
}

/// A model on disk: its config is read, its weights are not yet.
pub struct PretrainedModel {
    path: PathBuf,
    config: ModelConfig,
    source: Box<dyn WeightSource + Send + Sync>,
    tokenizer: TokenizerSource,
}

impl PretrainedModel {
    /// Recognises a Hugging Face folder or a llama2.c file, reads its config and checks, without reading them, that the
    /// weights are all there and fit it.
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::Files`] or [`Error::Config`] where it is no model that this build opens;
    /// [`Error::MissingTensor`], [`Error::ExtraTensor`], [`Error::Shape`] or [`Error::Tensor`] where the weights are
    /// not those of its config; [`Error::Io`], [`Error::Pointer`] or [`Error::DanglingLink`] where a file cannot be
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        let files = if path.is_dir() { Self::open_folder(path)? } else { Self::open_file(path)? };
        weights::check(&files.config, files.source.as_ref())?;
        let (parameters, classes) = (files.config.parameters(), files.config.vocab_size());
        info!(path = %path.display(), family = files.config.model_type(), parameters, classes, "model opened");
        Ok(files)
    }

    fn open_file(path: &Path) -> Result<Self> {
        if !files::is_there(path) {
            let problem = "there is no such file or folder".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), problem });
        }
        let weights = Llama2cWeights::open(path)?;
        let tokenizer = TokenizerSource::Llama2c(path.with_file_name("tokenizer.bin"));
        let config = ModelConfig::from(weights.config().clone());
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

    /// A model may come without a tokenizer, but not with half of one.
    fn with_whole_tokenizer(self) -> Result<Self> {
        let (TokenizerSource::Json(path) | TokenizerSource::Llama2c(path)) = &self.tokenizer;
        if files::is_there(path) {
            files::open(path)?;
        }
        Ok(self)
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokenizer beside the weights, whether or not it is there.
    pub fn tokenizer(&self) -> &TokenizerSource {
        &self.tokenizer
    }

    /// Name for people: the folder's name, or the file's without its ending.
    pub fn name(&self) -> String {
        let stem = if self.path.is_dir() { self.path.file_name() } else { self.path.file_stem() };
        stem.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Hash over what shapes the logits: two models with the same fingerprint say the same. [`identity`] defines it.
    ///
    /// # Errors
    /// Those of [`Self::open`]: all of the weights are read for it.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        identity::fingerprint(&self.config, self.source.as_ref())
    }

    /// What lies beside the weights and goes with them into another folder.
    ///
    /// # Errors
    /// Those of [`Companions::from_folder`]; [`Error::Config`] where config.json is no JSON object any more.
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
    /// [`Error::Device`] where `device` cannot compute in `precision`; [`Error::Tensor`] names a weight that is no
    /// finite number; [`Error::Io`].
    pub fn load(&self, device: &Device, precision: Precision) -> Result<Model> {
        let start = Instant::now();
        let model = weights::load(&self.config, self.source.as_ref(), device, precision.dtype(device)?)?;
        info!(path = %self.path.display(), %precision, seconds = start.elapsed().as_secs_f64(), "weights loaded");
        Ok(model)
    }
}
