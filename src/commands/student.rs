//! The student of a training run before its first step: its shape, its files, and the model that it starts from.

use super::inheritance::Inheritance;
use crate::models;
use crate::student::StudentConfig;
use crate::tokenizers::{is_same_json, of_model};
use anyhow::{Result, anyhow, bail};
use logitcask_core::Fingerprint;
use logitcask_data::TextTokenizer;
use logitcask_model::{Companions, ModelConfig, PrunedConfig, PrunedModel};
use logitcask_train::TrainConfig;

/// A student before its training.
pub(super) struct Student {
    /// The section of the recipe, completed with what follows from the data.
    pub section: StudentConfig,
    pub config: ModelConfig,
    /// The model that it starts as; `None`: random weights.
    pub start: Option<PrunedModel>,
    /// tokenizer.json of the exported student.
    pub tokenizer: Vec<u8>,
    /// The other files of the exported student.
    pub companions: Companions,
}

impl Student {
    /// Opens the student of a recipe, and completes it with what it inherits.
    pub fn open(section: &StudentConfig, inheritance: &Inheritance) -> Result<Self> {
        match section {
            StudentConfig::Fresh(config) => {
                let config = resolved(ModelConfig::clone(config), inheritance)?;
                let (tokenizer, companions) = (inheritance.tokenizer.json().to_vec(), inheritance.companions.clone());
                let section = StudentConfig::Fresh(Box::new(config.clone()));
                Ok(Self { section, config, start: None, tokenizer, companions })
            }
            StudentConfig::Pretrained(wanted) => Self::pretrained(wanted, inheritance),
        }
    }

    fn pretrained(wanted: &PrunedConfig, inheritance: &Inheritance) -> Result<Self> {
        // Labels say nothing about rows that belong to no token; a teacher has a number of them.
        let most = inheritance.padding.map_or(usize::MAX, |padding| inheritance.vocab_size + padding);
        let files = models::open(&wanted.from)?.for_texts_of(inheritance.max_length);
        let start = PrunedModel::new(files, wanted, inheritance.vocab_size..=most)?;
        let (source, path) = (start.source(), wanted.from.display());
        let tokenizer = of_model(source)?;
        let ours = &inheritance.tokenizer;
        if !is_same_json(tokenizer.json(), ours.json()) || tokenizer.added_tokens() != ours.added_tokens() {
            bail!(
                "{path}: the model's tokenizer is not the one of the data ({} tokens, {} of them in tokenizer_config.json; the \
                 data's has {}, {} of them there); start from a model with the teacher's tokenizer",
                tokenizer.vocab_size(),
                tokenizer.added_tokens().len(),
                inheritance.vocab_size,
                ours.added_tokens().len()
            );
        }
        let (context, window) = (start.config().max_position_embeddings(), inheritance.max_length);
        if context < window {
            bail!("{path}: the model's context of {context} tokens is shorter than the windows of {window}");
        }
        let vocab_size = Some(start.config().vocab_size());
        Ok(Self {
            section: StudentConfig::Pretrained(PrunedConfig { vocab_size, ..wanted.clone() }),
            config: start.config().clone(),
            companions: inherited(start.companions()?, &tokenizer, inheritance),
            tokenizer: tokenizer.json().to_vec(),
            start: Some(start),
        })
    }

    /// Fingerprint of the model that it starts from, if it starts from one.
    pub fn source(&self) -> Result<Option<Fingerprint>> {
        Ok(self.start.as_ref().map(|start| start.source().fingerprint()).transpose()?)
    }

    /// Its size, where it starts, and how much of it is trained.
    pub fn describe(&self, train: &TrainConfig) -> String {
        let (all, trained) = (self.config.parameters(), train.trained_parameters(&self.config));
        let millions = |count: usize| count as f64 / 1e6;
        let start = self.start.as_ref().map(|start| match start.is_whole() {
            true => format!(" that starts as {}", start.source().name()),
            false => format!(" that starts as parts of {}", start.source().name()),
        });
        let part = match train.lora {
            Some(_) => format!(", with adapters of {:.3} M,", millions(trained)),
            None if trained != all => format!(", of which {:.2} M are trained,", millions(trained)),
            None => String::new(),
        };
        format!("student of {:.2} M parameters{}{part}", millions(all), start.unwrap_or_default())
    }

    /// Refuses a context that is shorter than the data's windows of `window` tokens, settings of parts that the student
    /// does not have, and adapters of random weights.
    pub fn check_fit(&self, train: &TrainConfig, window: usize) -> Result<()> {
        // The student is evaluated on whole windows, whatever [train] max_length is.
        let context = self.config.max_position_embeddings();
        if context < window {
            bail!(
                "[student] max_position_embeddings = {context}, but the windows have {window} tokens; leave it out, or \
                 set {window} or more"
            );
        }
        if self.start.is_none() && train.lora.is_some() {
            bail!("[train] lora: adapters change the weights of an existing model; name one with [student] from");
        }
        Ok(train.check_parts(&self.config)?)
    }
}

/// The companions of a student that starts as a model with `own` companions and this tokenizer. If it learns conversations
/// that were written with another template than its own, it is the one that it knows afterwards.
fn inherited(own: Companions, tokenizer: &TextTokenizer, inheritance: &Inheritance) -> Companions {
    match &inheritance.chat_template {
        Some(template) if tokenizer.chat_files().default_template() != Some(template) => {
            own.for_conversations(template, &inheritance.companions.end_tokens())
        }
        _ => own,
    }
}

/// The shape of a student with random weights, completed with what it inherits from its data.
fn resolved(student: ModelConfig, inheritance: &Inheritance) -> Result<ModelConfig> {
    // Rows of the head that belong to no token are only inherited if vocab_size counts them.
    let (classes, own, most) =
        (inheritance.vocab_size, student.vocab_size(), inheritance.vocab_size + inheritance.padding.unwrap_or(0));
    if own != 0 && !(classes..=most).contains(&own) {
        let range = if most > classes { format!("{classes} to {most}") } else { classes.to_string() };
        bail!("vocab_size = {own}, but its data has {range} classes; leave it out");
    }
    if student.bos_token_id().is_some() || !student.eos_token_ids().is_empty() {
        bail!("bos_token_id and eos_token_id are inherited from the tokenizer; leave them out");
    }
    let mut ends = inheritance.companions.end_tokens();
    if let Some(id) = ends.iter().find(|&&id| id as usize >= most) {
        bail!(
            "generation_config.json in the cache names token {id} as an end token, but there are only {most} classes"
        );
    }
    if ends.is_empty() {
        ends.extend(inheritance.tokenizer.eos());
    }
    let student = student.with_special_tokens(inheritance.tokenizer.bos(), ends);
    let student = student.resolved(classes, inheritance.max_length).map_err(|e| anyhow!(e))?;
    Ok(student.for_texts_of(inheritance.max_length))
}
