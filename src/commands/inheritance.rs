//! What a student inherits from its data, and what its shape has to fit.

use crate::experiment::companions_of_students;
use crate::recipe::Recipe;
use crate::recipe_teacher::RecipeTeacher;
use anyhow::Result;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::Companions;

/// Tokenizer, files and sizes that determine those of a student.
pub(super) struct Inheritance {
    pub tokenizer: TextTokenizer,
    /// The other files of the teacher that students inherit.
    pub companions: Companions,
    /// The chat template with which the data's conversations were written as text.
    pub chat_template: Option<String>,
    /// Number of classes that are tokens.
    pub vocab_size: usize,
    /// Number of the teacher's classes that are not; `None` without a teacher.
    pub padding: Option<usize>,
    /// Most tokens of a window.
    pub max_length: usize,
}

impl Inheritance {
    /// What the cache of a recipe will pass on, without the template of its conversations, of which nothing is known
    /// before these are read.
    pub fn of_teacher(recipe: &Recipe, teacher: &RecipeTeacher) -> Result<Self> {
        Ok(Self {
            tokenizer: teacher.tokenizer.clone(),
            companions: companions_of_students(teacher.source.companions()?, recipe)?,
            chat_template: None,
            vocab_size: teacher.tokenizer.vocab_size() as usize,
            padding: Some(teacher.padding() as usize),
            max_length: recipe.cache.max_length,
        })
    }
}
