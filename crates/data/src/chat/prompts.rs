//! The prompts of a dataset, for a model that is to answer them.

use super::error::ChatError;
use super::renderer::Renderer;
use crate::document::Content;
use crate::error::{Error, Result};
use crate::source::{DatasetConfig, Found, Source, SplitsFrom, Tally};
use crate::tokenizer::TextTokenizer;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings of a renderer that say which tokens of given answers are learned: here are none.
const OF_ANSWERS: [&str; 3] = ["turns", "end of turn", "too long"];

/// The prompts of a dataset, in order.
#[derive(Clone, Debug, Default)]
pub struct Prompts {
    /// Those that ask something.
    pub rows: Vec<Prompt>,
    /// Whether every row names its split.
    pub has_splits: bool,
    /// What determines how they are written, by name: the template's hash, the date, variables.
    pub settings: BTreeMap<String, String>,
    /// Notes in plain sentences about rows that were left out.
    pub notes: Vec<String>,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens, up to where an answer begins.
    pub tokens: Vec<u32>,
    /// Role and text of its messages.
    pub messages: Vec<(String, String)>,
    /// The name of its split, if its file or its row names it.
    pub split: Option<String>,
    /// Its file.
    pub path: PathBuf,
    /// Its index in its file, from 0.
    pub row: u64,
}

impl Prompts {
    /// Reads the prompts of a file or folder and writes them with the tokenizer's chat template.
    ///
    /// They are conversations in any form that a dataset can have, without the answers at their ends, or rows with a
    /// `prompt` (a text or a list of messages) or an `instruction` and no answer. A column `split` names their splits
    /// unless the configuration names another.
    ///
    /// # Errors
    /// A file that holds no prompts or cannot be read, a row that cannot be rendered or spells out a special token, a
    /// model without a chat template, and options that are for other datasets.
    pub fn read(config: &DatasetConfig, tokenizer: &TextTokenizer) -> Result<Self> {
        let config = Source::prompt_config(config)?;
        let source = Source::of_prompts(&config)?;
        let renderer = Renderer::open(&config, tokenizer.chat_files())?;
        let mut found = vec![];
        let tally = source.read(0..source.files().len(), Tally::default(), &mut |one: Found| {
            found.push(one);
            Ok(())
        })?;
        let mut notes = source.notes(&tally)?;
        let all = found.len();
        // The first error in the order of the rows.
        let rows: Vec<Result<Option<Prompt>>> = found
            .into_par_iter()
            .map(|found| {
                let path = source.files()[found.file].path.clone();
                prompt(found, path, &renderer, tokenizer)
            })
            .collect();
        let rows: Vec<Prompt> = rows.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
        let silent = all - rows.len();
        if rows.is_empty() {
            return Err(ChatError::NoPrompts { path: config.path.clone(), rows: all }.into());
        }
        if silent > 0 {
            let path = config.path.display();
            notes.push(format!("{path}: {silent} of {all} rows have no message before an answer and were left out"));
        }
        let settings = renderer.settings().iter().filter(|(name, _)| !OF_ANSWERS.contains(&name.as_str()));
        let settings = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
        // Files that are all called `train` do not divide a dataset, as where these are read themselves.
        let has_splits = match source.splits() {
            SplitsFrom::Column => true,
            SplitsFrom::Files => rows.iter().any(|row| row.split.as_deref() != Some("train")),
            SplitsFrom::Hash => false,
        };
        Ok(Self { rows, has_splits, settings, notes })
    }
}

/// A row's prompt; `None` if it asks nothing.
fn prompt(found: Found, path: PathBuf, renderer: &Renderer, tokenizer: &TextTokenizer) -> Result<Option<Prompt>> {
    let (row, split) = (found.row, found.document.split);
    let Content::Conversation(conversation) = found.document.content else { return Ok(None) };
    let conversation = conversation.without_last_answer();
    if conversation.is_blank() {
        return Ok(None);
    }
    let refused = |problem| Error::from(ChatError::Conversation { path: path.clone(), document: row, problem });
    let tokens = renderer.prompt(&conversation, tokenizer).map_err(refused)?;
    if tokens.is_empty() {
        return Err(refused("the chat template writes nothing for it".to_owned()));
    }
    Ok(Some(Prompt { tokens, messages: conversation.plain_messages(), split, path, row }))
}
