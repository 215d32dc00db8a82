//! Finding out what a path holds, and opening it.

use crate::weights::{self, Llama2cWeights, SafetensorsWeights, WeightSource};
use crate::{Error, Llama, LlamaConfig, Precision, Result};
use burn::tensor::Device;
use logitcask_core::Fingerprint;
use std::path::{Path, PathBuf};

/// Where the tokenizer that belongs to a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// Hugging Face's tokenizer.json.
    Json(PathBuf),
    /// llama2.c's tokenizer.bin.
    Llama2c(PathBuf),
}

/// A model on disk: its config is read, its weights are not yet.
pub struct ModelFiles {
    path: PathBuf,
    config: LlamaConfig,
    source: Box<dyn WeightSource + Send + Sync>,
    hashed: Vec<PathBuf>,
    tokenizer: TokenizerSource,
}

impl ModelFiles {
    /// Recognises a Hugging Face folder or a llama2.c file and reads its config.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        if path.is_file() {
            let weights = Llama2cWeights::open(path)?;
            return Ok(Self {
                config: weights.config().clone(),
                source: Box::new(weights),
                hashed: vec![path.to_owned()],
                tokenizer: TokenizerSource::Llama2c(path.with_file_name("tokenizer.bin")),
                path: path.to_owned(),
            });
        }
        Err(Error::NotAModel { path: path.to_owned(), problem: "there is no such file or folder".into() })
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let config_path = path.join("config.json");
        if !config_path.is_file() {
            let problem = "the folder has no config.json".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), problem });
        }
        let config = LlamaConfig::read(&config_path)?;
        let weights = SafetensorsWeights::open(path)?;
        let hashed = weights.files().to_vec();
        let tokenizer = TokenizerSource::Json(path.join("tokenizer.json"));
        Ok(Self { path: path.to_owned(), config, source: Box::new(weights), hashed, tokenizer })
    }

    /// Its shape.
    pub fn config(&self) -> &LlamaConfig {
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

    /// Hash over shape and weight files: two models with the same fingerprint say the same.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let mut hasher = blake3::Hasher::new();
        // Only what shapes the forward: a change of the special token ids leaves every logit as it is.
        let shape = LlamaConfig { bos_token_id: None, eos_token_id: None, ..self.config.clone() };
        hasher.update(format!("{shape:?}").as_bytes());
        for path in &self.hashed {
            let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
            hasher.update_reader(file).map_err(Error::io(path, "read"))?;
        }
        Ok(hasher.finalize().into())
    }

    /// Reads the weights onto `device`.
    pub fn load(&self, device: &Device, precision: Precision) -> Result<Llama> {
        weights::load(&self.config, self.source.as_ref(), device, precision.dtype(device)?)
    }
}
