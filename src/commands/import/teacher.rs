//! The model that made the files of an import, and the plan of their cache.

use crate::args::ImportTarget;
use crate::commands::damaged_parts::remove_damaged_parts;
use crate::models;
use crate::output::note;
use crate::tokenizers;
use anyhow::{Result, bail};
use logitcask_cache::companions::pins;
use logitcask_cache::{AddedToken, ArtifactRef, FORMAT_VERSION, Layout, Plan, REFUSE_SPECIAL_TOKENS, Versions};
use logitcask_core::{Fingerprint, PositionChoice, Truncation};
use logitcask_data::TextTokenizer;
use logitcask_import::samples_per_unit;
use logitcask_model::{Companions, PretrainedModel};
use std::path::Path;

/// The model that made the files, as far as it is known.
pub(super) struct Teacher {
    pub pin: ArtifactRef,
    pub tokenizer: TextTokenizer,
    pub companions: Companions,
    /// Number of classes of its head that are no tokens.
    pub padding: u32,
}

/// What the rows of an import are, and what they were made from.
pub(super) struct Rows {
    pub versions: Versions,
    /// What is said of the teacher's number format.
    pub precision: String,
    /// Tokens of a batch; 0 if there were no batches.
    pub batch_tokens: u64,
    pub positions: PositionChoice,
    pub keep: Truncation,
    pub dataset: ArtifactRef,
    /// Names and numbers of samples of the splits.
    pub splits: Vec<(String, u64)>,
    /// Tokens of the longest sample.
    pub max_length: u32,
}

impl Teacher {
    /// The model that is named, whether it is on this machine or not.
    pub(super) fn of(target: &ImportTarget) -> Result<Self> {
        let name = target.teacher.display();
        let files = match models::on_disk(&target.teacher) {
            Some(path) if target.teacher.exists() => Some(PretrainedModel::open(&path)?),
            // Of a model that is named as on a hub, the tokenizer alone may have been fetched.
            Some(path) => PretrainedModel::open(&path).ok(),
            None => None,
        };
        if let Some(files) = files {
            let tokenizer = tokenizer_of(target, &files)?;
            return Self::of_files(target, &files, tokenizer);
        }
        let Some(folder) = &target.tokenizer else {
            bail!("{name}: no such model is on this machine, so its tokenizer must be named: --tokenizer FOLDER")
        };
        let (tokenizer, companions) = of_folder(folder)?;
        note!("{name}: no such model is on this machine, so that the cache pins its name instead of its weights");
        let pin = ArtifactRef { name: name.to_string(), fingerprint: Fingerprint::of(name.to_string().as_bytes()) };
        Ok(Self { pin, padding: 0, tokenizer, companions })
    }

    /// A model on this machine, whose weights are pinned, with its [`tokenizer_of`].
    pub(super) fn of_files(
        target: &ImportTarget,
        files: &PretrainedModel,
        (tokenizer, companions): (TextTokenizer, Companions),
    ) -> Result<Self> {
        let pin = ArtifactRef { name: target.teacher.display().to_string(), fingerprint: files.fingerprint()? };
        let padding = (files.config().vocab_size() as u32).saturating_sub(tokenizer.vocab_size());
        Ok(Self { pin, padding, tokenizer, companions })
    }

    /// Removes the damaged parts of a finished cache of this plan; returns whether there were any.
    pub(super) fn remove_damaged_parts(&self, folder: &Path, plan: Plan) -> Result<bool> {
        let companions: Vec<_> = self.companions.iter().collect();
        remove_damaged_parts(folder, plan, self.tokenizer.json(), &companions)
    }

    /// The plan of a cache of these rows.
    pub(super) fn plan(&self, rows: Rows) -> Plan {
        let tokenizer = &self.tokenizer;
        let vocab_size = tokenizer.vocab_size();
        let added = |(id, content): &(u32, String)| AddedToken { id: *id, content: content.clone() };
        Plan {
            format_version: FORMAT_VERSION,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            versions: rows.versions,
            layout: Layout::Plain,
            vocab_size,
            max_length: rows.max_length,
            precision: rows.precision,
            batch_tokens: rows.batch_tokens,
            positions: rows.positions,
            samples_per_unit: samples_per_unit(rows.max_length, rows.keep.max_kept(vocab_size)),
            keep: rows.keep,
            extras: Vec::new(),
            teacher: self.pin.clone(),
            tokenizer: ArtifactRef { name: "tokenizer.json".to_owned(), fingerprint: tokenizer.fingerprint() },
            added_tokens: tokenizer.added_tokens().iter().map(added).collect(),
            special_tokens: REFUSE_SPECIAL_TOKENS.to_owned(),
            conversations: Default::default(),
            bos: tokenizer.bos(),
            end: tokenizer.eos(),
            dataset: rows.dataset,
            companions: pins(self.companions.iter()),
            splits: Plan::splits_of(&rows.splits),
        }
    }
}

/// The tokenizer of a model on this machine, with the other files that students inherit.
pub(super) fn tokenizer_of(target: &ImportTarget, files: &PretrainedModel) -> Result<(TextTokenizer, Companions)> {
    match &target.tokenizer {
        Some(folder) => of_folder(folder),
        None => Ok((tokenizers::of_model(files)?, files.companions()?)),
    }
}

fn of_folder(folder: &Path) -> Result<(TextTokenizer, Companions)> {
    Ok((tokenizers::of_folder(folder)?, Companions::from_folder(folder)?))
}
