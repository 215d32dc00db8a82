//! Answers of a teacher to the prompts of a dataset: written once, kept in a file, and cached like rows that another
//! program tokenised.

mod record;
mod write;

pub use record::Record;

use crate::devices;
use crate::output::{counted, note};
use crate::parts;
use crate::paths::move_aside;
use crate::recipe::Recipe;
use crate::recipe_teacher::RecipeTeacher;
use crate::tokenizers;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_data::{
    ANSWER_MASKS, ANSWER_SPLITS, ANSWER_TOKENS, DatasetConfig, GenerateConfig, Prompts, TextTokenizer, answers_record,
};
use logitcask_model::{DeviceChoice, Precision, PretrainedModel};
use std::path::Path;

/// Number of prompts that are answered together unless the command line says otherwise.
pub const BATCH: usize = 32;

/// Everything that answers are made from.
pub struct Answers<'a> {
    files: &'a PretrainedModel,
    tokenizer: &'a TextTokenizer,
    precision: Precision,
    prompts: Prompts,
    ends: Vec<u32>,
    record: Record,
}

impl<'a> Answers<'a> {
    /// Reads the prompts of a dataset. Prompt and answer have at most `max_length` tokens together, for which `files`
    /// must be set up.
    pub fn of(
        config: &DatasetConfig,
        generate: &GenerateConfig,
        (files, tokenizer): (&'a PretrainedModel, &'a TextTokenizer),
        max_length: usize,
        precision: Precision,
    ) -> Result<Self> {
        let context = files.config().max_position_embeddings();
        if max_length > context {
            bail!("a sample of {max_length} tokens is longer than the model's context of {context}");
        }
        let ends = tokenizers::ends(files, tokenizer)?;
        let prompts = Prompts::read(config, tokenizer)?;
        let record = Record::of(&prompts, generate, files.fingerprint()?, ends.clone(), max_length, precision);
        Ok(Self { files, tokenizer, precision, prompts, ends, record })
    }

    /// Those that a recipe with this `[dataset.generate]` asks its teacher for.
    fn of_recipe(
        recipe: &Recipe,
        generate: &GenerateConfig,
        teacher: (&'a PretrainedModel, &'a TextTokenizer),
    ) -> Result<Self> {
        let precision = recipe.teacher.as_ref().map(|teacher| teacher.precision).unwrap_or_default();
        Self::of(recipe.texts()?, generate, teacher, recipe.cache.max_length, precision)
    }

    /// Whether the file holds these answers; `false` if there is none.
    ///
    /// # Errors
    /// If it holds others; the message names what differs.
    pub fn are_in(&self, path: &Path) -> Result<bool> {
        match path.exists() {
            true => Record::read(path)?.check(&self.record, path).map(|()| true),
            false => Ok(false),
        }
    }

    /// What they are made from.
    pub fn into_record(self) -> Record {
        self.record
    }

    /// Writes the answers into the file, or those that an earlier run did not write.
    pub fn write(&self, path: &Path, device: DeviceChoice, batch: usize) -> Result<()> {
        self.prompts.notes.iter().for_each(|text| note!("{text}"));
        if self.ends.is_empty() {
            note!(
                "{}: no end token is known of it, so that every answer reaches the maximum length",
                self.files.name()
            );
        }
        let (device, name) = devices::open(device)?;
        note!("{} answers {} on {name}", self.files.name(), counted(self.prompts.rows.len() as u64, "prompts"));
        write::run(self, path, &device, batch)
    }
}

/// The dataset of a recipe, and how its teacher answers it, if it is one of answers.
fn generated(recipe: &Recipe) -> Option<(&DatasetConfig, &GenerateConfig)> {
    let dataset = recipe.dataset.as_ref()?;
    Some((dataset, dataset.generate.as_ref()?))
}

/// The record of the answers that a recipe's dataset consists of; `None` if its dataset is none of answers.
///
/// # Errors
/// If they are not written yet, or others than the recipe's. Prompts that are no longer there are not compared.
pub fn of_experiment(
    recipe: &Recipe,
    path: &Path,
    (files, tokenizer): (&PretrainedModel, &TextTokenizer),
) -> Result<Option<Record>> {
    let Some((dataset, generate)) = generated(recipe) else { return Ok(None) };
    let file = file(dataset)?;
    if !file.exists() {
        bail!(
            "{}: the answers of [dataset.generate] are not written yet; `logitcask cache {}` writes them",
            file.display(),
            path.display()
        );
    }
    if !dataset.path.exists() {
        note!(
            "{}: is missing, so that the answers in {} are taken as they are",
            dataset.path.display(),
            file.display()
        );
        return Record::read(file).map(Some);
    }
    let answers = Answers::of_recipe(recipe, generate, (files, tokenizer))?;
    answers.are_in(file)?;
    Ok(Some(answers.into_record()))
}

/// Has the teacher write the answers that a recipe's dataset consists of, if it is one of answers and they are not
/// there. `replace` moves other answers aside.
pub fn make(recipe: &Recipe, teacher: &RecipeTeacher, device: DeviceChoice, replace: bool) -> Result<()> {
    let Some((dataset, generate)) = generated(recipe) else { return Ok(()) };
    let file = file(dataset)?;
    if file.exists() && !replace {
        // They are compared with the recipe when they are opened.
        return Ok(());
    }
    // A recipe with a teacher on a server was refused.
    let Some(files) = teacher.source.files() else { return Ok(()) };
    let answers = Answers::of_recipe(recipe, generate, (files, &teacher.tokenizer))?;
    if replace {
        move_others_aside(&answers, file)?;
    }
    if answers.are_in(file)? {
        return Ok(());
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    }
    answers.write(file, device, BATCH)
}

/// Moves a file of other answers aside, and what an earlier run left of others.
fn move_others_aside(answers: &Answers<'_>, file: &Path) -> Result<()> {
    if let Err(other) = answers.are_in(file) {
        note!("{other:#}; moved to {}", move_aside(file)?.display());
    }
    if let Err(other) = parts::are_of(file, &answers.record, BATCH) {
        note!("{other:#}; moved to {}", move_aside(&parts::folder(file))?.display());
    }
    Ok(())
}

/// Where the answers to a dataset's prompts are kept.
fn file(config: &DatasetConfig) -> Result<&Path> {
    let path = config.generate.as_ref().and_then(|generate| generate.path.as_deref());
    path.ok_or_else(|| anyhow!("[dataset.generate] path: the answers have no place"))
}

/// Whether what a dataset consists of is there: its answers, if it is one of answers.
pub fn are_there(config: &DatasetConfig) -> bool {
    file(config).unwrap_or(&config.path).exists()
}

/// The dataset to read: the answers to its prompts, if it is one of answers.
pub fn dataset(config: &DatasetConfig) -> Result<DatasetConfig> {
    if config.generate.is_none() {
        return Ok(config.clone());
    }
    let path = file(config)?;
    if !path.exists() {
        bail!(
            "{}: the answers of [dataset.generate] are not written yet; `logitcask cache` writes them",
            path.display()
        );
    }
    let has_splits = Record::read(path)?.has_splits;
    Ok(DatasetConfig {
        tokens_column: Some(ANSWER_TOKENS.to_owned()),
        mask_column: Some(ANSWER_MASKS.to_owned()),
        split_column: has_splits.then(|| ANSWER_SPLITS.to_owned()),
        held_out: config.held_out,
        held_out_validation: config.held_out_validation,
        ..DatasetConfig::at(path)
    })
}

/// Settings that have no meaning beside `[dataset.generate]`.
pub fn check(recipe: &Recipe) -> Result<()> {
    let Some((dataset, generate)) = generated(recipe) else { return Ok(()) };
    if recipe.teacher.is_none() {
        bail!("[dataset.generate] needs a [teacher], which writes the answers");
    }
    if dataset.tokens_column.is_some() {
        bail!("[dataset] tokens_column: [dataset.generate] answers prompts that are messages; leave one of them out");
    }
    let chat = &dataset.chat;
    if (chat.answers, chat.too_long) != Default::default() {
        bail!(
            "[dataset.chat] answers and too_long are for answers that are given; with [dataset.generate] the tokens that \
             the teacher writes are learned. Leave them out"
        );
    }
    if generate.max_tokens == Some(0) {
        bail!("[dataset.generate] max_tokens = 0 leaves no answer; it is at least 1");
    }
    let sampling = logitcask_teach::generate::Sampling { temperature: generate.temperature, top_p: generate.top_p };
    sampling.check().context("[dataset.generate]")
}

/// The record in a file of answers.
fn record_in(path: &Path) -> Result<String> {
    answers_record(path)?.ok_or_else(|| {
        anyhow!(
            "{}: is not a file that `logitcask generate --prompts` or [dataset.generate] wrote; name another one, or \
             remove it first",
            path.display()
        )
    })
}
