//! `logitcask generate --prompts`.

use crate::answers::{Answers, BATCH};
use crate::args::GenerateArgs;
use crate::models;
use crate::option_names::on_command_line;
use crate::output::say;
use crate::tokenizers;
use anyhow::Result;
use logitcask_data::{ANSWER_MASKS, ANSWER_SPLITS, ANSWER_TOKENS, ChatConfig, DatasetConfig, GenerateConfig};
use logitcask_model::Precision;
use std::path::Path;

/// Answers prompts, or goes on with a run that was stopped.
pub(super) fn run(args: &GenerateArgs, prompts: &Path, out: &Path) -> Result<()> {
    let (config, generate) = settings(args, prompts);
    let files = models::open(&args.model)?;
    let context = files.config().max_position_embeddings();
    let max_length = args.max_length.map_or(context, |length| length as usize);
    let files = files.for_texts_of(max_length);
    let tokenizer = tokenizers::of_model(&files)?;
    let answers = Answers::of(&config, &generate, (&files, &tokenizer), max_length, Precision::F32);
    let answers = answers.map_err(on_command_line)?;
    if answers.are_in(out)? {
        say!("{} holds these answers already", out.display());
        return Ok(());
    }
    answers.write(out, args.device, args.batch.map_or(BATCH, |batch| batch as usize))?;
    say!("To cache them, a recipe needs");
    say!("[dataset]");
    say!("path = \"{}\"", out.display());
    say!("tokens_column = \"{ANSWER_TOKENS}\"");
    say!("mask_column = \"{ANSWER_MASKS}\"");
    if answers.into_record().has_splits {
        say!("split_column = \"{ANSWER_SPLITS}\"");
    }
    Ok(())
}

/// The settings of a recipe that would have the same answers.
fn settings(args: &GenerateArgs, prompts: &Path) -> (DatasetConfig, GenerateConfig) {
    let chat = ChatConfig {
        template: args.template.clone(),
        date: args.date.clone(),
        variables: args.variable.iter().cloned().collect(),
        ..ChatConfig::default()
    };
    let config = DatasetConfig {
        messages_column: args.messages_column.clone(),
        special_tokens: args.special_tokens,
        chat,
        ..DatasetConfig::at(prompts)
    };
    let generate = GenerateConfig {
        temperature: args.temperature,
        top_p: args.top_p,
        max_tokens: args.max_tokens,
        seed: args.seed,
        finished_only: args.finished_only,
        path: None,
    };
    (config, generate)
}
