//! `logitcask repair`.

use super::cache::{Run, fill, other_plan};
use super::verify::verify_aloud;
use crate::answers;
use crate::args::RepairArgs;
use crate::caches;
use crate::experiment::Experiment;
use crate::output::say;
use crate::recipe_file;
use crate::recipe_teacher::RecipeTeacher;
use anyhow::{Result, bail};
use logitcask_cache::{Plan, repair, verify};
use logitcask_core::Fingerprint;
use std::path::Path;
use std::time::Instant;

/// Verifies the recipe's cache and rebuilds only the missing and damaged parts.
pub fn run(args: &RepairArgs) -> Result<()> {
    let start = Instant::now();
    let recipe = recipe_file::read(&args.recipe)?;
    let teacher = RecipeTeacher::open(&recipe, &args.recipe)?;
    answers::make(&recipe, &teacher, args.device, false)?;
    let experiment = Experiment::of(recipe, &args.recipe, teacher)?;
    let folder = &experiment.folder;
    let existing = Plan::read(folder).ok();
    // A plan that the manifest names is the cache's own. Any other may be damaged, which shows further below.
    let own = caches::open(folder).ok().map(|cache| cache.plan().clone());
    if let Some(plan) = &own
        && experiment.plan_with_atoms_and_versions_of(plan)?.id() != plan.id()
    {
        bail!("{}. A cache is repaired with the recipe that it was made with", other_plan(&experiment, plan)?);
    }
    let report = verify_aloud(folder, verify::Tier::Rows)?;
    if report.is_whole() {
        report.notes.iter().for_each(|note| say!("note: {note}"));
        say!("{}: intact, nothing to repair", folder.display());
        return Ok(());
    }
    report.findings.iter().for_each(|finding| say!("{finding}"));
    if let Some(plan) = &own
        && plan.versions != experiment.source.versions()
    {
        bail!(
            "{}. Only the version of this program that made a cache can rebuild the same rows; `logitcask cache {} \
             --replace` makes a new one",
            other_plan(&experiment, plan)?,
            args.recipe.display()
        );
    }
    let (teacher, device) = experiment.teacher_on(&args.device)?;
    let atoms = match &existing {
        Some(plan) => plan.keep.atoms() as u32,
        None => experiment.choose_tail_atoms(&*teacher)?,
    };
    let plan = experiment.plan(experiment.keep(atoms))?;
    let companions: Vec<_> = experiment.companions.iter().collect();
    let prepared = repair::prepare(folder, plan, experiment.tokenizer.json(), &companions, &report)?;
    let run = Run { start, device, recipe: Some(args.recipe.clone()), tokenizer: &experiment.tokenizer };
    let manifest = fill(&experiment.pipeline(&*teacher, &prepared.writer), folder, &run)?;
    say_outcome(folder, &prepared, manifest.cache_id())
}

/// Says that the cache is repaired.
///
/// # Errors
/// If it is not the one that it was.
fn say_outcome(folder: &Path, prepared: &repair::Repair, now: Fingerprint) -> Result<()> {
    let is_companion = |name: &str| prepared.writer.plan().companions.iter().any(|pin| pin.name == name);
    if let Some(lost) = prepared.left.iter().find(|finding| is_companion(&finding.file)) {
        bail!(
            "{}: its rows are intact, but not {lost}. The teacher's folder no longer has this file: restore it there",
            folder.display()
        );
    }
    match prepared.cache_id {
        Some(wanted) if wanted != now => bail!(
            "{}: repaired, but its cache id is now {} instead of {}: some rows differ from the original ones",
            folder.display(),
            now.short(),
            wanted.short()
        ),
        // A file with the name of a shard that is not of this format may be the user's own, so it is not removed.
        _ if !prepared.left.is_empty() => bail!(
            "{}: repaired, but {} is not a file of this cache, and readers of datasets would read it as one; move it \
             away",
            folder.display(),
            prepared.left[0].file
        ),
        Some(_) => say!("{}: repaired, with the same cache id as before", folder.display()),
        None => say!("{}: repaired, cache id {}", folder.display(), now.short()),
    }
    Ok(())
}
