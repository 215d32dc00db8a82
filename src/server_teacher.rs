//! A teacher that a server runs, as a recipe names it.

use crate::output::note;
use crate::recipe::{CacheConfig, Recipe, TeacherConfig};
use anyhow::{Context, Result, anyhow, bail};
use logitcask_core::{Sample, Selection, TargetTransform, Truncation};
use logitcask_data::SpecialIds;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{Companions, Precision};
use logitcask_remote::{Client, KEY_VARIABLE, RetryPolicy, ServerModel, ServerRowBuilder};
use logitcask_teach::RemoteTeacher;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Number of requests that are under way at a time, unless the recipe says otherwise.
const CONNECTIONS: usize = 4;

/// A model on a server, which was asked for what it says about itself.
pub struct ServerTeacher {
    config: TeacherConfig,
    url: String,
    folder: PathBuf,
    /// What the server says about the model.
    pub model: ServerModel,
}

impl ServerTeacher {
    /// Asks the server about the recipe's model; `None` if the teacher is on no server.
    pub fn open(config: &TeacherConfig) -> Result<Option<Self>> {
        let (Some(url), Some(folder)) = (&config.server, &config.tokenizer) else { return Ok(None) };
        let model = client(config, url)?.model()?;
        Ok(Some(Self { config: config.clone(), url: url.clone(), folder: folder.clone(), model }))
    }

    /// The tokenizer, from its folder.
    pub fn tokenizer(&self) -> Result<TextTokenizer> {
        tokenizer_of(&self.folder)
    }

    /// The files beside the tokenizer that students inherit.
    pub fn companions(&self) -> Result<Companions> {
        Ok(Companions::from_folder(&self.folder)?)
    }

    /// Largest length of a window, if the server says how long the model's context is.
    pub fn longest_window(&self) -> Option<usize> {
        let reserved = self.config.interface.unwrap_or_default().reserved_tokens();
        self.model.max_model_len.map(|length| (length as usize).saturating_sub(reserved))
    }

    /// The teacher that asks the server, after a first request for the beginning of `sample` of `split`.
    pub fn teacher(&self, keep: Truncation, vocab_size: u32, split: &str, sample: Sample) -> Result<RemoteTeacher> {
        let rows = ServerRowBuilder::new(keep, vocab_size).ok_or_else(|| anyhow!(ONLY_LIKELIEST))?;
        let connections = self.config.connections.unwrap_or(CONNECTIONS);
        let client = client(&self.config, &self.url)?;
        let teacher = RemoteTeacher::new(client, rows, vocab_size as usize, connections);
        teacher.try_out(split, sample)?;
        note!("teacher {} on {}, {connections} requests at a time", self.model.id, self.url);
        Ok(teacher)
    }
}

/// What is kept of a row, as far as the teacher of a recipe tells it.
pub fn keep(teacher: &TeacherConfig, keep: Truncation) -> Truncation {
    match teacher.server {
        Some(_) => Truncation { source: teacher.interface.unwrap_or_default().source(), tail: None, ..keep },
        None => keep,
    }
}

fn client(config: &TeacherConfig, url: &str) -> Result<Client> {
    let model = config.model.to_str().ok_or_else(|| anyhow!("[teacher] model: the name is not valid Unicode"))?;
    let key = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    Ok(Client::new(url, model, config.interface.unwrap_or_default(), key, RetryPolicy::default())?)
}

/// The tokenizer in a folder as the model's own folder has it. A document ends with the token that its config.json
/// names, if there is one.
pub fn tokenizer_of(folder: &Path) -> Result<TextTokenizer> {
    let path = folder.join("config.json");
    let config: Value = match path.exists() {
        true => serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)
            .with_context(|| format!("{}: is damaged", path.display()))?,
        false => Value::Null,
    };
    let ids = |key: &str| -> Vec<u32> {
        // Models that also read images have the keys of their texts in a section.
        let value = [&config[key], &config["text_config"][key]].into_iter().find(|value| !value.is_null());
        let one_or_several =
            value.map_or(&[][..], |value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        one_or_several.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    };
    let (bos, eos) = (ids("bos_token_id").first().copied(), ids("eos_token_id"));
    let (tokenizer, notes) = TextTokenizer::from_model_folder(folder, SpecialIds { bos, eos: &eos })
        .context("[teacher] tokenizer: the folder needs the tokenizer of the model on the server")?;
    notes.iter().for_each(|text| note!("{}: {text}", folder.display()));
    Ok(tokenizer)
}

const ONLY_LIKELIEST: &str = "[cache] selection: a server tells the likeliest classes alone; use top_k or top_p";

/// Rejects settings that a teacher on a server cannot have, or only such a teacher.
pub fn check(recipe: &Recipe) -> Result<()> {
    let Some(teacher) = &recipe.teacher else { return Ok(()) };
    if teacher.server.is_none() {
        let keys = [
            ("tokenizer", teacher.tokenizer.is_some()),
            ("interface", teacher.interface.is_some()),
            ("connections", teacher.connections.is_some()),
        ];
        return match keys.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => bail!("[teacher] {key} is for a teacher on a server; name the server, or leave it out"),
            None => Ok(()),
        };
    }
    if teacher.tokenizer.is_none() {
        bail!(
            "[teacher] server: the tokenizer of the model must be here; name its folder with tokenizer = \"FOLDER\" \
             (tokenizer.json and what is beside it)"
        );
    }
    if teacher.precision != Precision::default() {
        bail!("[teacher] precision is the server's own matter; leave it out");
    }
    if teacher.connections == Some(0) {
        bail!("[teacher] connections = 0 asks for nothing; it is at least 1, and {CONNECTIONS} if left out");
    }
    if recipe.dataset.as_ref().is_some_and(|dataset| dataset.generate.is_some()) {
        bail!("[dataset.generate] needs a teacher that runs here; a server is asked for log-probabilities alone");
    }
    if matches!(recipe.loss.target, TargetTransform::Similar { .. }) && recipe.loss.needs_teacher() {
        bail!(
            "[loss] target: the similarity of classes is computed from the teacher's head, which a server does not give"
        );
    }
    check_cache(&recipe.cache)
}

/// Rejects what rows of a server cannot have.
fn check_cache(cache: &CacheConfig) -> Result<()> {
    if !matches!(cache.selection, Selection::TopK { .. } | Selection::TopP { .. }) {
        bail!(ONLY_LIKELIEST);
    }
    if !cache.always_keep.is_empty() {
        bail!("[cache] always_keep: a server tells the likeliest classes alone; leave it out");
    }
    if let Some(name) = cache.extras.keys().next() {
        bail!("[cache.extras.{name}]: a server gives no hidden states; leave it out");
    }
    let range = cache.temperature_range;
    if range != CacheConfig::default().temperature_range && range != [1.0, 1.0] {
        bail!(
            "[cache] temperature_range = {range:?}: a server does not tell the shape of the tail, so that its rows are \
             for T = 1 alone; leave it out"
        );
    }
    Ok(())
}
