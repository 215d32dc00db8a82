//! `logitcask eval`.

use crate::args::EvalArgs;
use crate::caches;
use crate::comparison_report::{comparison_json, comparison_lines};
use crate::devices;
use crate::models;
use crate::option_names::on_command_line;
use crate::output::say;
use crate::stop;
use crate::tokenizers;
use anyhow::{Result, anyhow, bail};
use logitcask_data::{DatasetConfig, SpecialTokens, TextDataset};
use logitcask_model::{Precision, PretrainedModel};
use logitcask_train::{Source, eval};
use std::path::Path;
use std::sync::Arc;

/// Evaluates a model on a cache's split or on a text.
pub fn run(args: &EvalArgs) -> Result<()> {
    let files = models::open(&args.model)?;
    let (source, split) = match (&args.cache, &args.data) {
        (Some(cache), _) => (open_cache(&files, cache)?, args.split.as_str()),
        (None, Some(data)) => (Source::Labels(Arc::new(open_text(&files, data, args.max_length)?)), "test"),
        (None, None) => bail!("name a source with --cache or --data"),
    };
    let (device, _) = devices::open(args.device)?;
    let length = match &source {
        Source::Cache(cache) => cache.plan().max_length as usize,
        _ => args.max_length.unwrap_or(files.config().max_position_embeddings()),
    };
    let model = files.for_texts_of(length).load(&device, Precision::F32)?;
    let comparison =
        eval::compare(&model, &source, split, stop::flag("stopping"))?.ok_or_else(|| anyhow!("stopped"))?;
    match args.json {
        true => say!("{}", serde_json::to_string_pretty(&comparison_json(&comparison))?),
        false => comparison_lines(&comparison).iter().for_each(|line| say!("{line}")),
    }
    Ok(())
}

/// Opens a cache after checking that the model has its classes, context and tokenizer.
fn open_cache(files: &PretrainedModel, folder: &Path) -> Result<Source> {
    let cache = caches::open(folder)?;
    let plan = cache.plan();
    // The heads of both models may be padded with rows that belong to no token.
    let (classes, least) = (files.config().vocab_size(), plan.vocab_size as usize);
    let most = least + plan.keep.padding as usize;
    if !(least..=most).contains(&classes) {
        bail!(
            "{}: the model has {classes} classes, but the cache's teacher has {most}, of which {least} are tokens",
            folder.display()
        );
    }
    let (context, window) = (files.config().max_position_embeddings(), plan.max_length as usize);
    if context < window {
        bail!("{}: its windows of {window} tokens are longer than the model's context of {context}", folder.display());
    }
    if !tokenizers::is_same_json(tokenizers::of_model(files)?.json(), tokenizers::of_cache(&cache)?.json()) {
        bail!("{}: the model's tokenizer is not the one this cache was made with", folder.display());
    }
    Ok(Source::Cache(cache))
}

fn open_text(files: &PretrainedModel, data: &Path, max_length: Option<usize>) -> Result<TextDataset> {
    let tokenizer = tokenizers::of_model(files)?;
    // The whole text is the split `test`, since nothing is trained on it.
    let special_tokens = SpecialTokens::Plain;
    let config = DatasetConfig { held_out: 1.0, special_tokens, ..DatasetConfig::at(data) };
    let context = files.config().max_position_embeddings();
    let length = max_length.unwrap_or(context);
    if length > context {
        bail!("--max-length {length} is longer than the model's context of {context}");
    }
    TextDataset::load(&config, &tokenizer, length).map_err(on_command_line)
}
