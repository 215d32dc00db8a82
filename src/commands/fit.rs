//! Checks, before a teacher runs for hours, that the recipe's student can be trained from what it writes.

use super::inheritance::Inheritance;
use super::student::Student;
use crate::models;
use crate::recipe::Recipe;
use crate::recipe_teacher::RecipeTeacher;
use crate::student::StudentConfig;
use anyhow::{Context, Result};
use logitcask_cache::Plan;
use std::path::Path;

/// Refuses a recipe whose student does not fit its teacher, or whose loss does not fit another cache that is there
/// already. `train` refuses it too, but only after the teacher has run.
pub(super) fn check(recipe: &Recipe, path: &Path, teacher: &RecipeTeacher) -> Result<()> {
    let second = recipe.loss.second_teacher.as_ref().map(|second| ("[loss] second_teacher", &second.cache));
    for (key, folder) in second.into_iter().chain(recipe.data.iter().map(|data| ("[[data]]", &data.cache))) {
        // A cache that is missing may be made later.
        let Ok(plan) = Plan::read(folder) else { continue };
        recipe
            .loss
            .check_against(&plan.keep)
            .with_context(|| format!("{}: {key} {}", path.display(), folder.display()))?;
    }
    let (Some(section), Some(train)) = (&recipe.student, &recipe.train) else { return Ok(()) };
    // The model that a student starts from may be on another machine, where the student is trained.
    if let StudentConfig::Pretrained(wanted) = section
        && models::on_disk(&wanted.from).is_none()
    {
        return Ok(());
    }
    let inheritance = Inheritance::of_teacher(recipe, teacher)?;
    let student = Student::open(section, &inheritance).with_context(|| format!("{}: [student]", path.display()))?;
    student.check_fit(train, inheritance.max_length).with_context(|| path.display().to_string())
}
