//! `logitcask tokenizer`.

use crate::args::TokenizerArgs;
use crate::option_names::on_command_line;
use crate::output::{note, say};
use crate::paths::{refuse_existing, refuse_unwritable};
use anyhow::{Context, Result};
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_data::{DatasetConfig, read_documents};

/// Trains a byte-level BPE tokenizer on the train split, or on all documents if nothing names splits.
pub fn run(args: &TokenizerArgs) -> Result<()> {
    refuse_existing(&args.out)?;
    refuse_unwritable(&args.out)?;
    let config =
        DatasetConfig { split_column: args.split_column.clone(), held_out: 0.0, ..DatasetConfig::at(&args.data) };
    let corpus = read_documents(&config).map_err(on_command_line)?;
    corpus.notes.iter().for_each(|text| note!("{text}"));
    let texts = corpus
        .documents
        .into_iter()
        .filter(|document| document.split.as_deref().is_none_or(|split| split == "train"))
        .filter_map(|document| document.content.text().map(str::to_owned));
    let tokenizer = train_byte_level_bpe(texts, args.size)?;
    std::fs::write(&args.out, tokenizer.json()).with_context(|| format!("{}: cannot write it", args.out.display()))?;
    say!("{} ({} tokens; id 0, <|endoftext|>, starts and ends a text)", args.out.display(), tokenizer.vocab_size());
    Ok(())
}
