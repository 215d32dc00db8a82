//! `logitcask cache`.

use super::fit;
use crate::answers;
use crate::args::CacheArgs;
use crate::caches;
use crate::experiment::Experiment;
use crate::inputs::Inputs;
use crate::output::{note, say};
use crate::paths::{are_one, move_aside};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::recipe_file;
use crate::recipe_teacher::RecipeTeacher;
use crate::stop;
use crate::summary::{CacheFigures, CacheRun};
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::Error::{Io, Malformed, NotACache, OtherPlan, Unfinished, Version};
use logitcask_cache::companions::pins;
use logitcask_cache::{CacheReader, CacheWriter, MANIFEST_NAME, Manifest, PLAN_NAME, Plan, REBUILD};
use logitcask_data::{Dataset, TextTokenizer};
use logitcask_teach::{Error, Pipeline, StageSeconds};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// What the user can do about a folder that holds another cache.
const REPLACE: &str = "--replace (with `make`: REPLACE=1) moves the existing cache aside and starts a new one";

/// Number of characters that an error shows of the text before a position.
const SHOWN_CHARACTERS: usize = 80;

/// Fills the recipe's cache, or reports that it is up to date.
pub fn run(args: &CacheArgs) -> Result<()> {
    let (start, read_at) = (Instant::now(), SystemTime::now());
    let recipe = recipe_file::read(&args.recipe)?;
    let folder = recipe.cache_folder(&args.recipe);
    let existing = if folder.join(PLAN_NAME).exists() { Some(Plan::read(&folder)) } else { None };
    let existing = match existing {
        Some(Err(error @ (Malformed { .. } | Version { .. }))) if !args.replace => {
            return Err(damaged(&recipe, &args.recipe, error));
        }
        existing => existing,
    };
    let inputs = Inputs::of(&recipe);
    if let (Some(Ok(plan)), Some(inputs)) = (&existing, &inputs)
        && inputs.match_record(&folder, plan)
        && let Some(cache) = open_whole(&folder, &recipe, &args.recipe)?
    {
        return up_to_date(&cache);
    }
    let teacher = RecipeTeacher::open(&recipe, &args.recipe)?;
    let fit = fit::check(&recipe, &args.recipe, &teacher);
    // A finished cache is up to date whatever is to be learned from it.
    let fit = if folder.join(MANIFEST_NAME).exists() && !args.replace { fit } else { Ok(fit?) };
    answers::make(&recipe, &teacher, args.device, args.replace)?;
    let experiment = Experiment::of(recipe, &args.recipe, teacher)?;
    let begun = experiment.begun()?;
    if let Some(plan) = &begun
        && let Some(cache) = open_whole(&folder, &experiment.recipe, &args.recipe)?
    {
        remember(inputs, &folder, plan, read_at);
        note_changed_companions(&experiment, plan);
        return up_to_date(&cache);
    }
    if let (None, Some(Ok(existing))) = (&begun, &existing)
        && !args.replace
    {
        if let Some(cache) = whole_by_another_version(&experiment, existing)? {
            return up_to_date(&cache);
        }
        // `open_writer` would refuse it too, but only after the teacher was loaded and the number of atoms chosen.
        return Err(stale(&experiment, existing, &args.recipe)?);
    }
    fit?;
    experiment.check_splits()?;
    // The model is loaded before the folder is created: a model that cannot be loaded leaves no unfinished cache
    // behind.
    let (teacher, device) = experiment.teacher_on(&args.device)?;
    let plan = match begun {
        Some(plan) => plan,
        None => experiment.plan(experiment.keep(experiment.choose_tail_atoms(&*teacher)?))?,
    };
    let writer = open_writer(&experiment, plan, &args.recipe, args.replace)?;
    let run = Run { start, device, recipe: Some(args.recipe.clone()), tokenizer: &experiment.tokenizer };
    fill(&experiment.pipeline(&*teacher, &writer), &folder, &run)?;
    remember(inputs, &folder, writer.plan(), read_at);
    Ok(())
}

/// Records the inputs for the next call. If the cache's folder is read-only, every call compares the inputs again.
fn remember(inputs: Option<Inputs>, folder: &Path, plan: &Plan, read_at: SystemTime) {
    let _ = inputs.map(|inputs| inputs.record(folder, plan, read_at));
}

fn up_to_date(cache: &CacheReader) -> Result<()> {
    say!("{} is up to date (cache id {})", cache.folder().display(), cache.cache_id().short());
    Ok(())
}

/// The finished cache in `folder`, after a check that every shard exists and has its length; `None` if it is not
/// finished.
///
/// # Errors
/// If the cache is damaged; the message names the damage and how to repair it.
fn open_whole(folder: &Path, recipe: &Recipe, path: &Path) -> Result<Option<CacheReader>> {
    match caches::open_whole(folder) {
        Ok(cache) => Ok(Some(cache)),
        Err(Unfinished { .. } | NotACache { .. }) => Ok(None),
        Err(error) => Err(damaged(recipe, path, error)),
    }
}

/// The finished cache of this recipe in its folder if another version of the program made it and nothing is missing. It
/// stays as useful as it was; only the rest of an unfinished one could not be added by this version.
fn whole_by_another_version(experiment: &Experiment, existing: &Plan) -> Result<Option<CacheReader>> {
    if experiment.plan_with_atoms_and_versions_of(existing)?.id() != existing.id() {
        return Ok(None);
    }
    let Ok(cache) = caches::open_whole(&experiment.folder) else { return Ok(None) };
    note!(
        "{}: another version of this program made it ({}), and this one could make some tokens or numbers otherwise. \
         {REPLACE}",
        experiment.folder.display(),
        differences(experiment, existing)?.join("; ")
    );
    note_changed_companions(experiment, existing);
    Ok(Some(cache))
}

/// The error about a damaged cache, with the command that repairs it.
pub(super) fn damaged(recipe: &Recipe, path: &Path, error: logitcask_cache::Error) -> anyhow::Error {
    // A file that exists but cannot be read is not necessarily damaged, and neither is one of another format.
    if matches!(&error, Version { .. }) || matches!(&error, Io { reason, .. } if reason.kind() != ErrorKind::NotFound) {
        return error.into();
    }
    let rebuild = match recipe.dataset {
        Some(_) => format!("rebuild it with `logitcask repair {}`", path.display()),
        None => "rebuild it with the command that made it (`logitcask import` or `export`)".to_owned(),
    };
    // The reader of a cache does not know what made it, so its errors name every way.
    let cause = error.to_string();
    match cause.contains(REBUILD) {
        true => anyhow!("the cache is damaged: {}", cause.replace(REBUILD, &rebuild)),
        false => anyhow!("the cache is damaged: {cause}; {rebuild}"),
    }
}

/// The error about a cache of another plan than the recipe's, with what differs.
fn stale(experiment: &Experiment, existing: &Plan, recipe: &Path) -> Result<anyhow::Error> {
    let error = other_plan(experiment, existing)?;
    Ok(match owner(&experiment.recipe, &experiment.folder, recipe) {
        Some(owner) => anyhow!("{error}. It was made from {owner}: name another folder with [cache] path"),
        None => anyhow!("{error}. {REPLACE}"),
    })
}

/// The error about a cache of this plan, which is not the recipe's, with what differs.
pub(super) fn other_plan(experiment: &Experiment, existing: &Plan) -> Result<logitcask_cache::Error> {
    Ok(OtherPlan { path: experiment.folder.clone(), differences: differences(experiment, existing)? })
}

/// How a plan differs from the recipe's.
fn differences(experiment: &Experiment, existing: &Plan) -> Result<Vec<String>> {
    Ok(existing.differences(&experiment.plan_with_atoms_of(existing)?))
}

/// The other recipe that the cache in the folder was made from, if neither recipe names the folder: two recipes with
/// the same file name have the same default folder.
pub(super) fn owner(recipe: &Recipe, folder: &Path, path: &Path) -> Option<String> {
    let made_from = CacheRun::read(folder)?.recipe?;
    let other = Path::new(&made_from);
    let is_another = recipe.cache.path.is_none() && other.exists() && !are_one(other, path);
    is_another.then_some(made_from)
}

/// One call of a command that fills a cache.
pub(super) struct Run<'a> {
    /// When the call began.
    pub start: Instant,
    /// Name of the teacher's device.
    pub device: String,
    /// The recipe's path, if it has one.
    pub recipe: Option<PathBuf>,
    /// The tokenizer of the teacher.
    pub tokenizer: &'a TextTokenizer,
}

/// Runs the teacher for the writer's pending units and finishes the cache in the folder.
pub(super) fn fill(pipeline: &Pipeline<'_>, folder: &Path, run: &Run<'_>) -> Result<Manifest> {
    let writer = pipeline.writer;
    let progress = Progress::new("caching", "positions", positions(writer, pipeline.dataset)?);
    let mut stages = StageSeconds::default();
    let stop = stop::flag("stopping once the units that were begun are written");
    let filled = pipeline.run(stop, &mut stages, &|event| match event {
        logitcask_teach::Progress::Positions(count) => progress.add(count),
        logitcask_teach::Progress::Elsewhere(count) => progress.less(count),
        logitcask_teach::Progress::Committed { committed, units } => {
            progress.note(format!("{committed}/{units} units"));
        }
    });
    let seconds = progress.finish();
    let this = CacheRun {
        seconds: run.start.elapsed().as_secs_f64(),
        positions: progress.done(),
        device: run.device.clone(),
        recipe: run.recipe.as_ref().map(|path| path.display().to_string()),
        stages: stages.into(),
    };
    let recorded = this.add_to(folder);
    filled
        .map_err(|error| explained(error, pipeline.dataset, run.tokenizer))
        .with_context(|| folder.display().to_string())?;
    if let Err(error) = recorded {
        note!("the time that caching took is not recorded: {error:#}");
    }
    let manifest = writer.finish()?;
    report(folder, &manifest, stages, seconds);
    Ok(manifest)
}

/// The error, with the text that leads to the position that it names, by which the text is found in the dataset.
fn explained(error: Error, dataset: &dyn Dataset, tokenizer: &TextTokenizer) -> anyhow::Error {
    let (Error::BadAnswer { split, sample, position, .. } | Error::BadRow { split, sample, position, .. }) = &error
    else {
        return error.into();
    };
    let Ok(sample) = dataset.sample(split, *sample) else { return error.into() };
    let read = &sample.input_ids[..sample.input_ids.len().min(position + 2)];
    let Ok(text) = tokenizer.decode_verbatim(read) else { return error.into() };
    let before = text.chars().count().saturating_sub(SHOWN_CHARACTERS);
    let end: String = text.chars().skip(before).collect();
    anyhow!("{error}. Up to the token that follows this position, the sample ends with {end:?}")
}

/// Number of positions in the units without a commit.
fn positions(writer: &CacheWriter, dataset: &dyn Dataset) -> Result<u64> {
    let plan = writer.plan();
    let of = |unit: usize| dataset.positions(plan.unit(unit).split, plan.unit(unit).ids(), &plan.positions);
    Ok(writer.pending()?.into_iter().map(of).sum::<Result<u64, _>>()?)
}

fn report(folder: &Path, manifest: &Manifest, stages: StageSeconds, seconds: f64) {
    let figures = CacheFigures::of(manifest);
    say!("{}: {}", folder.display(), figures.line());
    if let Some(worst) = figures.log_z_error.iter().max_by(|a, b| a.worst.total_cmp(&b.worst)) {
        say!(
            "log Z at any temperature from {} to {}: error at most {:.1e} nats (at T = {:.2}), {:.1e} on average",
            figures.log_z_error.last().map_or(0.0, |e| e.temperature),
            figures.log_z_error.first().map_or(0.0, |e| e.temperature),
            worst.worst,
            worst.temperature,
            figures.log_z_error.iter().map(|e| e.mean).sum::<f64>() / figures.log_z_error.len() as f64,
        );
    }
    if stages.forward == 0.0 {
        // Every unit was already committed.
        return;
    }
    let share = |busy: f64| 100.0 * busy / seconds;
    say!(
        "busy: forward {:.0} %, selection {:.0} %, encoding and writing {:.0} % of {seconds:.0} s (they overlap)",
        share(stages.forward),
        share(stages.select),
        share(stages.write)
    );
}

fn open_writer(experiment: &Experiment, plan: Plan, recipe: &Path, replace: bool) -> Result<CacheWriter> {
    let folder = &experiment.folder;
    let tokenizer = experiment.tokenizer.json();
    let error = match CacheWriter::open(folder, plan.clone(), tokenizer) {
        Ok(writer) => {
            writer.lay_companions(experiment.companions.iter())?;
            note_changed_companions(experiment, writer.plan());
            return Ok(writer);
        }
        Err(error) => error,
    };
    let why = match &error {
        OtherPlan { differences, .. } => differences.join("; "),
        // The plan has another format version, or is damaged.
        Version { .. } | Malformed { .. } => error.to_string(),
        _ => return Err(error.into()),
    };
    if !replace {
        bail!("{error}. {REPLACE}");
    }
    if let Some(owner) = owner(&experiment.recipe, folder, recipe) {
        bail!("{} was made from {owner}; name another folder with [cache] path", folder.display());
    }
    note!("{} is stale ({why}); moved to {}", folder.display(), move_aside(folder)?.display());
    let writer = CacheWriter::open(folder, plan, tokenizer)?;
    writer.lay_companions(experiment.companions.iter())?;
    Ok(writer)
}

/// Notes which files beside the teacher differ from the cache's copies. The copies stay, and students inherit them.
fn note_changed_companions(experiment: &Experiment, plan: &Plan) {
    let now = pins(experiment.companions.iter());
    let changed = now.iter().filter(|pin| !plan.companions.contains(pin));
    let gone = plan.companions.iter().filter(|pin| now.iter().all(|other| other.name != pin.name));
    for pin in changed.chain(gone) {
        note!(
            "{}: the teacher's file has changed since the cache was started; students inherit the copy in the cache",
            pin.name
        );
    }
}
