//! `logitcask tokenizer`.

use crate::args::TokenizerArgs;
use anyhow::{Context, Result};
use logitcask_data::tokenizer::train_byte_level_bpe;
use logitcask_data::{DatasetConfig, read_documents};

/// Trains a byte-level BPE on the train split (all documents where there are no splits).
pub fn run(args: &TokenizerArgs) -> Result<()> {
    let config =
        DatasetConfig { split_column: args.split_column.clone(), held_out: 0.0, ..DatasetConfig::at(&args.data) };
    let documents = read_documents(&config)?;
    let texts = documents
        .into_iter()
        .filter(|document| document.split.as_deref().is_none_or(|split| split == "train"))
        .map(|document| document.text);
    let tokenizer = train_byte_level_bpe(texts, args.size)?;
    std::fs::write(&args.out, tokenizer.to_json()?)
        .with_context(|| format!("{}: cannot write it", args.out.display()))?;
    println!("{} ({} pieces; id 0, <|endoftext|>, starts and ends a text)", args.out.display(), tokenizer.vocab_size());
    Ok(())
}
