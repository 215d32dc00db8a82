//! A recipe's teacher, opened without its weights.

use crate::models;
use crate::recipe::{Recipe, TeacherConfig};
use crate::tokenizers;
use anyhow::{Result, anyhow};
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::PretrainedModel;
use std::path::Path;

/// A teacher whose weights have not been read.
pub struct TeacherFiles {
    /// Its section of the recipe.
    pub config: TeacherConfig,
    /// Its files, set up for the recipe's windows.
    pub files: PretrainedModel,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
}

impl TeacherFiles {
    /// Opens the teacher of the recipe at `path`.
    pub fn open(recipe: &Recipe, path: &Path) -> Result<Self> {
        let config = recipe.teacher.clone().ok_or_else(|| {
            anyhow!(
                "{}: the recipe has no [teacher], so there is nothing to cache; run `logitcask train` directly",
                path.display()
            )
        })?;
        let files = models::open(&config.model)?.for_texts_of(recipe.cache.max_length);
        let tokenizer = tokenizers::of_model(&files)?;
        Ok(Self { config, files, tokenizer })
    }

    /// Number of rows of its head that belong to no token.
    pub fn padding(&self) -> u32 {
        (self.files.config().vocab_size() as u32).saturating_sub(self.tokenizer.vocab_size())
    }
}
