//! Opens the tokenizer of a model or of a cache.

use crate::models;
use crate::output::note;
use crate::recipe::{TeacherConfig, TokenizerConfig};
use crate::server_teacher;
use anyhow::{Context, Result, bail};
use logitcask_cache::CacheReader;
use logitcask_data::{ChatFiles, SpecialIds, TextTokenizer};
use logitcask_model::{PretrainedModel, TokenizerSource};
use std::collections::BTreeSet;
use std::path::Path;

/// The tokenizer in a model's folder.
pub fn of_model(files: &PretrainedModel) -> Result<TextTokenizer> {
    let config = files.config();
    let ids = SpecialIds { bos: config.bos_token_id(), eos: config.eos_token_ids() };
    let (tokenizer, notes) = match files.tokenizer() {
        TokenizerSource::Json(path) => TextTokenizer::from_model_folder(path.parent().unwrap_or(Path::new(".")), ids),
        TokenizerSource::Gguf(path) => TextTokenizer::from_gguf(path).map(|tokenizer| (tokenizer, vec![])),
        TokenizerSource::Llama2c(path) => {
            TextTokenizer::from_llama2c(path, config.vocab_size() as u32).map(|tokenizer| (tokenizer, vec![]))
        }
    }
    .with_context(|| "cannot open the model's tokenizer, which must be in the folder or the file of its weights")?;
    notes.iter().for_each(|text| note!("{}: {text}", files.name()));
    if tokenizer.vocab_size() as usize > config.vocab_size() {
        bail!(
            "the tokenizer has {} tokens, but the model only {} classes: they do not belong together",
            tokenizer.vocab_size(),
            config.vocab_size()
        );
    }
    Ok(tokenizer)
}

/// The tokenizer in a folder that need not hold a model.
pub fn of_folder(folder: &Path) -> Result<TextTokenizer> {
    let (tokenizer, notes) = TextTokenizer::from_model_folder(folder, SpecialIds::default())?;
    notes.iter().for_each(|text| note!("{}: {text}", folder.display()));
    Ok(tokenizer)
}

/// The tokenizer of a recipe's teacher, wherever that runs.
pub fn of_teacher(teacher: &TeacherConfig) -> Result<TextTokenizer> {
    match &teacher.tokenizer {
        Some(folder) => server_teacher::tokenizer_of(folder),
        None => of_model(&models::open(&teacher.model)?),
    }
}

/// Every token that ends a text or an answer of a model, in ascending order.
pub fn ends(files: &PretrainedModel, tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
    let (config, companions) = (files.config(), files.companions()?);
    let own = [tokenizer.eos(), tokenizer.end_of_answer()].into_iter().flatten();
    let ends: BTreeSet<u32> =
        companions.end_tokens().into_iter().chain(config.eos_token_ids().iter().copied()).chain(own).collect();
    match ends.iter().find(|&&id| id as usize >= config.vocab_size()) {
        Some(id) => bail!(
            "{}: generation_config.json or config.json names token {id} as an end token, but the model has only {} classes",
            files.path().display(),
            config.vocab_size()
        ),
        None => Ok(ends.into_iter().collect()),
    }
}

/// The tokenizer of a run without a teacher, with the chat templates beside it.
pub fn of_file(config: &TokenizerConfig) -> Result<TextTokenizer> {
    let folder = config.path.parent().unwrap_or(Path::new("."));
    let tokenizer = TextTokenizer::from_json_file(&config.path, config.eos)?;
    Ok(tokenizer.with_chat_files(ChatFiles::in_folder(folder)?))
}

/// The tokenizer of a cache, with the settings that its samples were made with.
pub fn of_cache(cache: &CacheReader) -> Result<TextTokenizer> {
    let (plan, path) = (cache.plan(), cache.tokenizer_path());
    let json = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let added: Vec<(u32, String)> = plan.added_tokens.iter().map(|token| (token.id, token.content.clone())).collect();
    let companions = cache.companions()?;
    let chat = ChatFiles::of(cache.folder(), companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    let tokenizer = TextTokenizer::from_json_bytes(&json, &added, plan.end)?.with_chat_files(chat);
    if tokenizer.bos() != plan.bos {
        let text = |id: Option<u32>| id.map_or("no token".to_owned(), |id| format!("token {id}"));
        bail!(
            "{}: this tokenizer puts {} in front of a text, but the cache's windows begin with {}",
            path.display(),
            text(tokenizer.bos()),
            text(plan.bos)
        );
    }
    Ok(tokenizer)
}

/// Whether two tokenizer.json are the same tokenizer: another program may have formatted the same JSON differently.
pub fn is_same_json(a: &[u8], b: &[u8]) -> bool {
    let value = |json| serde_json::from_slice::<serde_json::Value>(json).ok();
    a == b || value(a).is_some_and(|a| Some(a) == value(b))
}
