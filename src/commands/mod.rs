//! One file per command.

mod cache;
mod completions;
mod estimate;
mod eval;
mod export;
mod generate;
mod generations;
mod inspect;
mod man;
mod measure;
mod repair;
mod run_folder;
mod tokenizer;
mod train;
mod verify;

use crate::args::Command;
use crate::output::note;
use anyhow::{Context, Result, bail};
use logitcask_data::{SpecialIds, TextTokenizer};
use logitcask_model::{PretrainedModel, TokenizerSource};
use std::path::Path;

/// Does what was asked.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Cache(args) => cache::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Completions(args) => {
            completions::run(&args);
            Ok(())
        }
        Command::Man(args) => man::run(&args),
        Command::MeasureDevice(args) => measure::run(&args),
    }
}

/// The tokenizer beside a model.
pub fn tokenizer_of(files: &PretrainedModel) -> Result<TextTokenizer> {
    let config = files.config();
    let ids = SpecialIds { bos: config.bos_token_id(), eos: config.eos_token_ids() };
    let (tokenizer, notes) = match files.tokenizer() {
        TokenizerSource::Json(path) => TextTokenizer::from_model_folder(path.parent().unwrap_or(Path::new(".")), ids),
        TokenizerSource::Llama2c(path) => {
            TextTokenizer::from_llama2c(path, config.vocab_size() as u32).map(|tokenizer| (tokenizer, vec![]))
        }
    }
    .with_context(|| "the model's tokenizer, which should lie beside its weights")?;
    notes.iter().for_each(|text| note!("{}: {text}", files.name()));
    if tokenizer.vocab_size() as usize > config.vocab_size() {
        bail!(
            "the tokenizer has {} tokens, the model {} classes: they do not belong together",
            tokenizer.vocab_size(),
            config.vocab_size()
        );
    }
    Ok(tokenizer)
}
