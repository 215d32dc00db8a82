//! `logitcask eval`.

use super::tokenizer_of;
use crate::args::EvalArgs;
use crate::stop;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::CacheReader;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_data::{DatasetConfig, SpecialTokens, TextDataset};
use logitcask_model::{ModelFiles, Precision};
use logitcask_train::{Source, eval};
use std::path::Path;
use std::sync::Arc;

/// Judges a model on a cache's split or on a text.
pub fn run(args: &EvalArgs) -> Result<()> {
    let files = ModelFiles::open(&args.model)?;
    let (source, split) = match (&args.cache, &args.data) {
        (Some(cache), _) => (open_cache(&files, cache)?, args.split.as_str()),
        (None, Some(data)) => (Source::Labels(Arc::new(open_text(&files, data, args.max_length)?)), "test"),
        (None, None) => bail!("name a --cache or --data"),
    };
    let (device, _) = args.device.open()?;
    let model = files.load(&device, Precision::F32)?;
    let evaluation = eval::evaluate(&model, &source, split, stop::flag())?.ok_or_else(|| anyhow!("stopped"))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        return Ok(());
    }
    println!("perplexity       {:.4}  (over {} positions)", evaluation.perplexity, evaluation.positions);
    if let (Some(kl), Some(agreement)) = (evaluation.kl_to_teacher, evaluation.top1_agreement) {
        println!("KL to teacher    {kl:.4}\ntop-1 agreement  {agreement:.4}");
    }
    Ok(())
}

/// A cache can judge only what speaks its tokens.
fn open_cache(files: &ModelFiles, folder: &Path) -> Result<Source> {
    let cache = CacheReader::open(folder)?;
    let plan = cache.plan();
    if files.config().vocab_size != plan.vocab_size as usize {
        bail!(
            "{}: the model has {} classes, the cache's teacher {}",
            folder.display(),
            files.config().vocab_size,
            plan.vocab_size
        );
    }
    let json = std::fs::read(cache.tokenizer_path()).with_context(|| cache.tokenizer_path().display().to_string())?;
    let theirs = TextTokenizer::from_json_bytes(&json, &[], plan.end)?;
    let mine = tokenizer_of(files)?;
    if mine.json() != theirs.json() {
        bail!("{}: the model's tokenizer is not the one this cache was made with", folder.display());
    }
    Ok(Source::Cache(cache))
}

fn open_text(files: &ModelFiles, data: &Path, max_length: Option<usize>) -> Result<TextDataset> {
    let tokenizer = tokenizer_of(files)?;
    // All of it is held out: nothing here is trained on.
    let special_tokens = SpecialTokens::Plain;
    let config = DatasetConfig { held_out: 1.0, special_tokens, ..DatasetConfig::at(data) };
    let context = files.config().max_position_embeddings;
    let length = max_length.unwrap_or(context);
    if length > context {
        bail!("--max-length {length} is longer than the model's context of {context}");
    }
    Ok(TextDataset::load(&config, &tokenizer, length)?)
}
