//! Detection of a model's format, and opening it.

use crate::families::{language_model, object};
use crate::weights::{
    self, GgufWeights, Llama2cWeights, Mxfp4Weights, RenamedWeights, SafetensorsWeights, WeightSource,
};
use crate::{Companions, Error, FinalLayers, Model, ModelConfig, Precision, Result, companions, files, identity};
use burn::tensor::Device;
use logitcask_core::Fingerprint;
use logitcask_gguf::GgufFile;
use logitcask_hub::{Settings, Snapshot, locate};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;
use tracing::info;

/// Location of the tokenizer that belongs to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// Hugging Face's tokenizer.json.
    Json(PathBuf),
    /// llama2.c's tokenizer.bin.
    Llama2c(PathBuf),
    /// The metadata of a GGUF file.
    Gguf(PathBuf),
}

/// A model on disk whose config was read, but not its weights.
pub struct PretrainedModel {
    path: PathBuf,
    name: String,
    config: ModelConfig,
    source: Box<dyn WeightSource + Send + Sync>,
    tokenizer: TokenizerSource,
    /// Companions that are inside the file with the weights.
    inside: Vec<(String, Vec<u8>)>,
    /// Computed when it is first asked for, because all weights are read for it.
    fingerprint: OnceLock<Fingerprint>,
}

impl PretrainedModel {
    /// Detects a Hugging Face folder, a llama2.c file or a GGUF file, reads its config, and checks without reading the
    /// weights that they are complete and match it. `ORG/NAME` or `ORG/NAME@REVISION`, where nothing of that name
    /// exists, is a model of a hub, see [`locate`].
    ///
    /// # Errors
    /// [`Error::NotAModel`], [`Error::Files`], [`Error::Config`] or [`Error::Gguf`] if it is not a model that this
    /// build can open; [`Error::MissingTensor`], [`Error::ExtraTensor`], [`Error::Shape`] or [`Error::Tensor`] if the
    /// weights do not match the config; [`Error::Io`], [`Error::Pointer`] or [`Error::DanglingLink`] if a file cannot
    /// be read; [`Error::Hub`] if a model of a hub is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let report = &mut |file: &str, bytes: u64| info!(name = %path.display(), file, bytes, "fetching");
        match locate(path, &Settings::from_env(), report, &|folder| Ok(Self::check_folder(folder).map(drop)?))? {
            Some(snapshot) => Self::open_snapshot(&snapshot),
            None if path.is_dir() => Self::open_folder(path, name_of(path.file_name()))?.checked(),
            None => Self::open_file(path)?.checked(),
        }
    }

    /// Opens a model of a hub that was located before. [`Self::open`] locates it itself; a branch can be another commit by
    /// then.
    ///
    /// # Errors
    /// The same as for [`Self::open`].
    pub fn open_snapshot(snapshot: &Snapshot) -> Result<Self> {
        if let Some(doubt) = &snapshot.doubt {
            info!(name = %snapshot.name, doubt, "the snapshot may be incomplete");
        }
        Self::open_folder(&snapshot.folder, snapshot.name.model().to_owned())?.checked()
    }

    /// Reads the config of a Hugging Face folder, and refuses what this build does not open, from small files alone: the
    /// weights need not be there.
    ///
    /// # Errors
    /// The same as for [`Self::open`], without those of weights.
    pub fn check_folder(folder: &Path) -> Result<ModelConfig> {
        companions::refuse_adapter(folder)?;
        companions::refuse_quantised(folder)?;
        companions::check(folder)?;
        ModelConfig::read(&folder.join("config.json"))
    }

    /// Checks its weights by their headers.
    fn checked(self) -> Result<Self> {
        let files = self;
        weights::check(&files.config, files.source.as_ref())?;
        let (parameters, classes) = (files.config.parameters(), files.config.vocab_size());
        info!(path = %files.path.display(), family = files.config.model_type().name(), parameters, classes, "model opened");
        Ok(files)
    }

    fn open_file(path: &Path) -> Result<Self> {
        if !files::is_there(path) {
            let problem = "there is no such file or folder".to_owned();
            return Err(Error::NotAModel { path: path.to_owned(), problem });
        }
        // Reports a link to nothing and a Git LFS pointer as what they are.
        files::open(path)?;
        let (path, name) = (path.to_owned(), name_of(path.file_stem()));
        if GgufFile::is_one(&path) || path.extension().is_some_and(|extension| extension == "gguf") {
            let weights = GgufWeights::open(&path)?;
            let (config, inside) = (weights.config().clone(), weights.templates());
            let tokenizer = TokenizerSource::Gguf(path.clone());
            return Ok(Self {
                path,
                name,
                config,
                source: Box::new(weights),
                tokenizer,
                inside,
                fingerprint: OnceLock::new(),
            });
        }
        let weights = Llama2cWeights::open(&path)?;
        let tokenizer = TokenizerSource::Llama2c(path.with_file_name("tokenizer.bin"));
        let config = weights.config().clone();
        Self {
            path,
            name,
            config,
            source: Box::new(weights),
            tokenizer,
            inside: Vec::new(),
            fingerprint: OnceLock::new(),
        }
        .with_whole_tokenizer()
    }

    fn open_folder(path: &Path, name: String) -> Result<Self> {
        if !files::is_there(&path.join("config.json")) {
            companions::refuse_adapter(path)?;
            companions::refuse_quantised(path)?;
            let gguf = files::names(path)?.into_iter().find(|name| name.ends_with(".gguf"));
            return Err(match gguf {
                Some(gguf) => weights::in_gguf(path, &gguf),
                None => Error::NotAModel { path: path.to_owned(), problem: "the folder has no config.json".to_owned() },
            });
        }
        let config = Self::check_folder(path)?;
        let weights = Mxfp4Weights::over(SafetensorsWeights::open(path)?)?;
        let source = Box::new(RenamedWeights::new(weights, |name| config.standard_name(name))?);
        let tokenizer = TokenizerSource::Json(path.join("tokenizer.json"));
        Self {
            path: path.to_owned(),
            name,
            config,
            source,
            tokenizer,
            inside: Vec::new(),
            fingerprint: OnceLock::new(),
        }
        .with_whole_tokenizer()
    }

    /// A model may have no tokenizer, but not an incomplete one.
    fn with_whole_tokenizer(self) -> Result<Self> {
        if let TokenizerSource::Json(path) | TokenizerSource::Llama2c(path) = &self.tokenizer
            && files::is_there(path)
        {
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

    /// A readable name: the folder's name, the file's without its extension, or `NAME` of `ORG/NAME`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Hash of everything that affects the logits: models with the same fingerprint have the same logits. [`identity`]
    /// defines it.
    ///
    /// # Errors
    /// The same as for [`Self::open`], because all of the weights are read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(*known);
        }
        let computed = identity::fingerprint(&self.config, self.source.as_ref())?;
        Ok(*self.fingerprint.get_or_init(|| computed))
    }

    /// The files next to the weights that are copied with them to another folder.
    ///
    /// # Errors
    /// The same as for [`Companions::from_folder`]; [`Error::Config`] if config.json is no longer a JSON object.
    pub fn companions(&self) -> Result<Companions> {
        if self.path.is_dir() {
            let config = language_model(&object(&self.path.join("config.json"))?);
            return Ok(Companions::from_folder(&self.path)?.with_config(&config));
        }
        let inside = Companions::from_files(&self.path, self.inside.clone())?;
        Ok(inside.with_config(&self.config.to_hf("float32")))
    }

    /// The same model for texts of up to this many tokens: see [`ModelConfig::for_texts_of`].
    pub fn for_texts_of(self, length: usize) -> Self {
        Self { config: self.config.for_texts_of(length), fingerprint: OnceLock::new(), ..self }
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

    /// Reads only what follows the last layer onto `device`: the final norm and the head.
    ///
    /// # Errors
    /// The same as for [`Self::load`].
    pub fn load_final_layers(&self, device: &Device, precision: Precision) -> Result<FinalLayers> {
        weights::load_final_layers(&self.config, self.source.as_ref(), device, precision.dtype(device)?)
    }
}

fn name_of(part: Option<&OsStr>) -> String {
    part.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
