//! What a file of answers was made from.

use super::record_in;
use crate::parts::differences;
use anyhow::{Context, Result, bail};
use logitcask_core::Fingerprint;
use logitcask_data::{GenerateConfig, Prompts};
use logitcask_model::Precision;
use logitcask_teach::generate::Sampling;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the way in which answers follow from the rest of a record.
const VERSION: u32 = 1;

/// Everything that determines a file of answers, up to the last bit of a logit, which may differ between devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    model: Fingerprint,
    precision: String,
    /// Hash of the tokens of all prompts and the names of their splits.
    prompts: Fingerprint,
    /// Whether the rows name their splits.
    pub has_splits: bool,
    /// What determines how the prompts are written: the template's hash, the date, variables.
    rendering: BTreeMap<String, String>,
    temperature: f64,
    top_p: f64,
    seed: u64,
    max_tokens: Option<u32>,
    max_length: usize,
    end_tokens: Vec<u32>,
    finished_only: bool,
}

impl Record {
    pub(super) fn of(
        prompts: &Prompts,
        generate: &GenerateConfig,
        model: Fingerprint,
        end_tokens: Vec<u32>,
        max_length: usize,
        precision: Precision,
    ) -> Self {
        Self {
            version: VERSION,
            model,
            precision: precision.to_string(),
            prompts: fingerprint(prompts),
            has_splits: prompts.has_splits,
            rendering: prompts.settings.clone(),
            temperature: generate.temperature,
            top_p: generate.top_p,
            seed: generate.seed,
            max_tokens: generate.max_tokens,
            max_length,
            end_tokens,
            finished_only: generate.finished_only,
        }
    }

    /// The record in a file of answers.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::parse(&record_in(path)?).with_context(|| format!("{}: its record cannot be read", path.display()))
    }

    pub(super) fn parse(json: &str) -> Result<Self> {
        Ok(serde_json::from_str(json)?)
    }

    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Refuses answers in `path` that were made from something else than `wanted`.
    pub(super) fn check(&self, wanted: &Self, path: &Path) -> Result<()> {
        let differences = differences(self, wanted)?;
        match differences.is_empty() {
            true => Ok(()),
            false => bail!(
                "{}: holds other answers ({}). Name another file, remove it, or move it aside (--replace of \
                 `logitcask cache`)",
                path.display(),
                differences.join("; ")
            ),
        }
    }

    /// Maximum number of tokens of a prompt and its answer.
    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }

    /// Maximum number of tokens of the answer to a prompt of this length.
    pub(super) fn most_after(&self, prompt: usize) -> usize {
        let room = self.max_length.saturating_sub(prompt);
        self.max_tokens.map_or(room, |most| room.min(most as usize))
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p }
    }

    /// Whether answers without an end token are left out.
    pub(super) fn is_finished_only(&self) -> bool {
        self.finished_only
    }

    /// The settings that a cache of the answers pins, by name. The rest of the record is in the hash of the teacher or of
    /// the dataset.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.rendering.clone();
        let own = [
            ("answers", "written by the teacher".to_owned()),
            ("temperature", self.temperature.to_string()),
            ("top p", self.top_p.to_string()),
            ("seed", self.seed.to_string()),
            ("max tokens", self.max_tokens.map_or("what max_length leaves".to_owned(), |count| count.to_string())),
            ("finished only", self.finished_only.to_string()),
        ];
        settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
        settings
    }
}

/// Hash of everything about the prompts that affects the file: their tokens, and their splits.
fn fingerprint(prompts: &Prompts) -> Fingerprint {
    let mut bytes = Vec::new();
    for prompt in &prompts.rows {
        bytes.extend((prompt.tokens.len() as u64).to_le_bytes());
        prompt.tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
        let split = prompt.split.as_deref().filter(|_| prompts.has_splits).unwrap_or_default();
        bytes.extend((split.len() as u64).to_le_bytes());
        bytes.extend(split.as_bytes());
    }
    Fingerprint::of(&bytes)
}
