//! Checks, before a student is trained, that a cache was made with the recipe's teacher and texts.

use crate::answers;
use crate::datasets;
use crate::experiment::Experiment;
use crate::inputs::Inputs;
use crate::models;
use crate::recipe::{Recipe, TeacherConfig};
use crate::recipe_teacher::RecipeTeacher;
use crate::tokenizers;
use anyhow::Result;
use logitcask_cache::{ArtifactRef, CacheReader, Plan};
use std::path::Path;
use std::time::SystemTime;

/// How a recipe and a cache compare.
pub struct Comparison {
    /// One sentence for each thing that differs.
    pub differences: Vec<String>,
    /// Parts of the recipe that could not be compared because their files are missing, as if the cache was downloaded.
    pub unseen: Vec<&'static str>,
}

/// Compares the teacher and texts of the recipe at `path` with the pins of `cache`, if their files exist.
pub fn compare(recipe: &Recipe, path: &Path, cache: &CacheReader) -> Result<Comparison> {
    let (plan, read_at) = (cache.plan(), SystemTime::now());
    let inputs = Inputs::of(recipe);
    if inputs.as_ref().is_some_and(|inputs| inputs.match_record(cache.folder(), plan)) {
        return Ok(Comparison { differences: Vec::new(), unseen: Vec::new() });
    }
    let is_served = recipe.teacher.as_ref().is_some_and(|teacher| teacher.server.is_some());
    let is_here = |teacher: &TeacherConfig| models::on_disk(&teacher.model).is_some();
    let has_teacher = !is_served && recipe.teacher.as_ref().is_some_and(is_here);
    let has_texts = recipe.dataset.as_ref().is_some_and(answers::are_there);
    if has_teacher && has_texts {
        let experiment = Experiment::of(recipe.clone(), path, RecipeTeacher::open(recipe, path)?)?;
        let differences = plan.differences(&experiment.plan_with_atoms_and_versions_of(plan)?);
        // Files are recorded with what this version makes of them.
        let is_of_this_version = plan.versions == experiment.source.versions();
        if let (Some(inputs), true) = (inputs, differences.is_empty() && is_of_this_version) {
            // In a read-only cache nothing is recorded, and every call compares again.
            let _ = inputs.record(cache.folder(), plan, read_at);
        }
        return Ok(Comparison { differences, unseen: Vec::new() });
    }
    let mut compared = Comparison { differences: Vec::new(), unseen: Vec::new() };
    // A recipe that names no teacher or no texts leaves nothing uncompared.
    match has_teacher || is_served {
        true => compared.teacher(recipe, plan)?,
        false => compared.unseen.extend(recipe.teacher.as_ref().map(|_| "teacher")),
    }
    match has_texts {
        true => compared.texts(recipe, cache)?,
        false => compared.unseen.extend(recipe.dataset.as_ref().map(|_| "dataset")),
    }
    Ok(compared)
}

impl Comparison {
    /// Compares the teacher; only its name if it is on a server, which need not run for a student to be trained.
    fn teacher(&mut self, recipe: &Recipe, plan: &Plan) -> Result<()> {
        let Some(teacher) = &recipe.teacher else { return Ok(()) };
        if teacher.server.is_some() {
            let (there, wanted) = (&plan.teacher.name, teacher.model.display().to_string());
            let difference = || format!("teacher: {there} in the cache, {wanted} in the recipe");
            self.differences.extend((*there != wanted).then(difference));
            return Ok(());
        }
        let files = models::open(&teacher.model)?;
        let wanted = ArtifactRef { name: files.name(), fingerprint: files.fingerprint()? };
        self.differences.extend(plan.teacher.difference("teacher", &wanted));
        Ok(())
    }

    /// Compares the texts, read with the cache's tokenizer because the teacher's is missing.
    fn texts(&mut self, recipe: &Recipe, cache: &CacheReader) -> Result<()> {
        let plan = cache.plan();
        let tokenizer = tokenizers::of_cache(cache)?;
        let (dataset, _) = datasets::open(recipe.texts()?, &tokenizer, plan.max_length as usize, cache.folder())?;
        let wanted = ArtifactRef { name: dataset.name().to_owned(), fingerprint: dataset.fingerprint() };
        self.differences.extend(plan.dataset.difference("dataset", &wanted));
        Ok(())
    }
}
