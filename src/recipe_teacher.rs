//! A recipe's teacher, opened without its weights.

use crate::recipe::{Recipe, TeacherConfig};
use crate::teacher_source::TeacherSource;
use anyhow::{Result, anyhow};
use logitcask_data::tokenizer::TextTokenizer;
use std::path::Path;

/// A teacher whose weights have not been read, or which a server runs.
pub struct RecipeTeacher {
    /// Its section of the recipe.
    pub config: TeacherConfig,
    /// Its files, set up for the recipe's windows, or its server.
    pub source: TeacherSource,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
}

impl RecipeTeacher {
    /// Opens the teacher of the recipe at `path`.
    pub fn open(recipe: &Recipe, path: &Path) -> Result<Self> {
        let config = recipe.teacher.clone().ok_or_else(|| {
            anyhow!(
                "{}: the recipe has no [teacher], so there is nothing to cache; run `logitcask train` directly",
                path.display()
            )
        })?;
        let source = TeacherSource::open(&config, recipe.cache.max_length)?;
        let tokenizer = source.tokenizer()?;
        Ok(Self { config, source, tokenizer })
    }

    /// Number of rows of its head that belong to no token, as far as it is known.
    pub fn padding(&self) -> u32 {
        self.source.padding(self.tokenizer.vocab_size())
    }
}
