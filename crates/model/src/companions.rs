//! Companions: files next to a model's weights that do not affect its logits but describe how texts are written for it
//! and where its answers end.

use crate::{Error, Result, files};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Small files that are copied byte for byte together with a model.
///
/// They are sufficient to know every end token: if a folder has no generation_config.json,
/// [`PretrainedModel::companions`](crate::PretrainedModel::companions) makes one from config.json as `transformers`
/// does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Companions {
    files: BTreeMap<String, Vec<u8>>,
    /// Keys of the model's config.json that this build does not read.
    config: Map<String, Value>,
}

/// generation_config.json: end tokens, and the sampling settings that the model's authors recommend.
const GENERATION: &str = "generation_config.json";

/// The chat template, which comes before any in another file.
const TEMPLATE: &str = "chat_template.jinja";

/// Keys of config.json that are not copied: they describe the files of their folder, or repeat in another form what
/// this build writes itself.
const OF_THE_FOLDER: [&str; 6] =
    ["_name_or_path", "auto_map", "dtype", "quantization_config", "rope_parameters", "torch_dtype"];

/// Keys of config.json that describe each layer.
const OF_THE_LAYERS: [&str; 2] = ["layer_types", "max_window_layers"];

impl Companions {
    /// Names of companions, in addition to every template in [`Self::TEMPLATES`].
    pub const NAMES: [&str; 6] = [
        "added_tokens.json",
        TEMPLATE,
        "chat_template.json",
        GENERATION,
        "special_tokens_map.json",
        Self::TOKENIZER_CONFIG,
    ];

    /// The folder of additional chat templates; each is a companion with the name `FOLDER/NAME.jinja`.
    pub const TEMPLATES: &str = "additional_chat_templates";

    /// Texts of the special tokens, and the tokenizer class that `transformers` uses.
    pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

    /// Reads the companions in `folder`.
    ///
    /// # Errors
    /// Any error in reading one of them; [`Error::Files`] if a JSON file is damaged.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let read = |name: String| files::read(&folder.join(&name)).map(|bytes| (name, bytes));
        Self::from_files(folder, Self::names_in(folder)?.into_iter().map(read).collect::<Result<_>>()?)
    }

    /// Creates companions from these files of `folder`, given with their names.
    ///
    /// # Errors
    /// [`Error::Files`] names a JSON file that is damaged.
    pub fn from_files(folder: &Path, files: Vec<(String, Vec<u8>)>) -> Result<Self> {
        for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".json")) {
            serde_json::from_slice::<Value>(bytes).map_err(|e| Error::Files {
                path: folder.join(name),
                problem: format!("is damaged: {e}; restore it, or remove it"),
            })?;
        }
        Ok(Self { files: files.into_iter().collect(), config: Map::new() })
    }

    /// Names of the companions in `folder`, sorted.
    pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
        let there = Self::NAMES.into_iter().filter(|name| files::is_there(&folder.join(name)));
        let mut names: Vec<String> = there.map(str::to_owned).collect();
        let templates = folder.join(Self::TEMPLATES);
        if templates.is_dir() {
            let templates = files::names(&templates)?.into_iter().filter(|name| name.ends_with(".jinja"));
            names.extend(templates.map(|name| format!("{}/{name}", Self::TEMPLATES)));
        }
        names.sort();
        Ok(names)
    }

    /// Adds the keys of config.json that do not describe the shape, and a generation_config.json made from them if
    /// there is none.
    pub(crate) fn with_config(mut self, config: &Map<String, Value>) -> Self {
        if !self.files.contains_key(GENERATION) {
            let ids = ["bos_token_id", "eos_token_id", "pad_token_id"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), config.get(key).filter(|id| !id.is_null())?.clone())));
            let mut generation: Map<String, Value> = ids.collect();
            if !generation.is_empty() {
                generation.insert("_from_model_config".to_owned(), json!(true));
                let text = format!("{:#}\n", Value::Object(generation));
                self.files.insert(GENERATION.to_owned(), text.into_bytes());
            }
        }
        let passed_on = config.iter().filter(|(key, _)| !OF_THE_FOLDER.contains(&key.as_str()));
        self.config = passed_on.map(|(key, value)| (key.clone(), value.clone())).collect();
        self
    }

    /// The same with this chat template in place of the model's own, in whatever file that was.
    pub fn with_chat_template(mut self, template: Vec<u8>) -> Self {
        self.files.insert(TEMPLATE.to_owned(), template);
        self
    }

    /// The companions of a model that learned conversations written with `template`, whose turns end with one of `ends`:
    /// it stops there too, and at its own end tokens.
    pub fn for_conversations(self, template: &str, ends: &[u32]) -> Self {
        let mut all = self.end_tokens();
        all.extend(ends);
        let mut seen = HashSet::new();
        all.retain(|id| seen.insert(*id));
        let mut this = self.with_chat_template(template.as_bytes().to_vec());
        let generation = this.get(GENERATION).and_then(|json| serde_json::from_slice(json).ok());
        let mut generation: Map<String, Value> = generation.unwrap_or_default();
        generation.insert("eos_token_id".to_owned(), json!(all));
        let text = format!("{:#}\n", Value::Object(generation));
        this.files.insert(GENERATION.to_owned(), text.into_bytes());
        this
    }

    /// The companions of a model with fewer layers: without the keys of config.json that describe each layer. Families
    /// that read them write them themselves.
    pub(crate) fn without_layers(mut self) -> Self {
        OF_THE_LAYERS.into_iter().for_each(|key| drop(self.config.remove(key)));
        self
    }

    /// Name (with `/` between folder and file) and bytes of each, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The bytes of the companion with this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The text of chat_template.jinja, if there is one.
    pub fn chat_template(&self) -> Option<&str> {
        str::from_utf8(self.get(TEMPLATE)?).ok()
    }

    /// Every token that ends a text according to generation_config.json; empty if it does not say.
    pub fn end_tokens(&self) -> Vec<u32> {
        let generation = self.get(GENERATION).and_then(|json| serde_json::from_slice::<Value>(json).ok());
        let ids = generation.and_then(|generation| generation.get("eos_token_id").cloned()).unwrap_or_default();
        let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        match &ids {
            Value::Array(ids) => ids.iter().filter_map(number).collect(),
            id => number(id).into_iter().collect(),
        }
    }

    /// Adds to `config` the keys of the source's config.json that it does not have.
    pub(crate) fn complete(&self, mut config: Map<String, Value>) -> Map<String, Value> {
        for (key, value) in &self.config {
            config.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        config
    }
}

/// Rejects a companion that is a broken link or a Git LFS pointer, before any long work starts.
pub(crate) fn check(folder: &Path) -> Result<()> {
    for name in Companions::names_in(folder)? {
        files::open(&folder.join(name))?;
    }
    Ok(())
}

/// Rejects a folder with quantised weights whose config.json may not say so: older tools describe them in a file of
/// their own.
pub(crate) fn refuse_quantised(folder: &Path) -> Result<()> {
    let names = [("quantize_config.json", "GPTQ or AWQ"), ("hf_quant_config.json", "ModelOpt")];
    let Some((name, method)) = names.into_iter().find(|(name, _)| files::is_there(&folder.join(name))) else {
        return Ok(());
    };
    let problem = format!(
        "holds {name}: its weights are quantised ({method}), and in safetensors this build reads f32, f16 and bf16. Take the \
         model that it was made from, or a GGUF file"
    );
    Err(Error::Files { path: folder.to_owned(), problem })
}

/// Rejects a folder with an adapter, because other programs apply it to the weights next to it.
pub(crate) fn refuse_adapter(folder: &Path) -> Result<()> {
    let names = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
    let Some(name) = names.into_iter().find(|name| files::is_there(&folder.join(name))) else { return Ok(()) };
    let problem = format!(
        "holds {name}: an adapter (LoRA or its kin) that other programs apply to the weights and this build does not. \
         Merge it first (peft's `merge_and_unload`, then `save_pretrained`), or remove it to use the weights alone"
    );
    Err(Error::Files { path: folder.to_owned(), problem })
}
