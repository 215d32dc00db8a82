//! `logitcask cache`.

use crate::args::CacheArgs;
use crate::experiment::Experiment;
use crate::progress::Progress;
use crate::recipe::move_aside;
use crate::stop;
use crate::summary::{CacheFigures, CacheRun};
use anyhow::{Context, Result, anyhow};
use logitcask_cache::{CacheReader, CacheWriter, Manifest, Plan};
use logitcask_core::SampleId;
use logitcask_data::TextDataset;
use logitcask_teach::{LocalTeacher, Pipeline, StageSeconds};
use std::path::Path;
use std::time::Instant;

/// Fills the recipe's cache, or says that it is full.
pub fn run(args: &CacheArgs) -> Result<()> {
    let start = Instant::now();
    let experiment = Experiment::open(&args.recipe)?;
    let folder = &experiment.folder;
    let begun = experiment.begun()?;
    if begun.is_some()
        && let Ok(cache) = CacheReader::open(folder)
    {
        println!("{} is up to date (root {})", folder.display(), cache.root().short());
        return Ok(());
    }
    // The model comes first: one that cannot be loaded leaves no half-made cache behind.
    let (teacher, device) = experiment.load_on(&args.device)?;
    let plan = match begun {
        Some(plan) => plan,
        None => experiment.plan(experiment.keep(experiment.settle_atoms(&teacher)?))?,
    };
    let writer = open_writer(folder, plan, experiment.tokenizer.json(), args.replace)?;
    fill(&experiment, &teacher, &writer, (start, device))?;
    Ok(())
}

/// Works off the writer's pending units and completes the cache; `since` is when the work on it began and where it runs.
pub(super) fn fill(
    experiment: &Experiment,
    teacher: &LocalTeacher,
    writer: &CacheWriter,
    since: (Instant, String),
) -> Result<Manifest> {
    let (start, device) = since;
    let folder = &experiment.folder;
    let positions = positions(writer, &experiment.dataset)?;
    let progress = Progress::new("caching", "positions", positions);
    let pipeline =
        Pipeline { dataset: &experiment.dataset, teacher, writer, batch_tokens: experiment.teacher.batch_tokens };
    let stages = pipeline.run(stop::flag(), &|event| match event {
        logitcask_teach::Progress::Positions(count) => progress.add(count),
        logitcask_teach::Progress::Committed { committed, units } => {
            progress.note(format!("{committed}/{units} units"));
        }
    });
    let seconds = progress.finish();
    let stages = stages.with_context(|| folder.display().to_string())?;
    let manifest = writer.finish()?;
    CacheRun { seconds: start.elapsed().as_secs_f64(), positions, device, stages: stages.into() }.add_to(folder)?;
    report(folder, &manifest, stages, seconds);
    Ok(manifest)
}

/// Positions that the units without a commit ask the teacher for.
fn positions(writer: &CacheWriter, dataset: &TextDataset) -> Result<u64> {
    let units = &writer.plan().units;
    let samples = writer.pending()?.into_iter().flat_map(|unit| {
        let unit = &units[unit];
        (unit.start..unit.end).filter_map(|id| dataset.sample(&unit.split, SampleId(id)))
    });
    Ok(samples.map(|sample| sample.positions() as u64).sum())
}

fn report(folder: &Path, manifest: &Manifest, stages: StageSeconds, seconds: f64) {
    let figures = CacheFigures::of(manifest);
    println!(
        "{}: root {}, {} positions, {:.1} bytes per position ({:.2} per kept entry), mean kept mass {:.4}",
        folder.display(),
        manifest.root().short(),
        manifest.totals.positions,
        figures.bytes_per_position,
        figures.bytes_per_entry,
        figures.kept_mass,
    );
    if let Some(worst) = figures.log_z_error.iter().max_by(|a, b| a.worst.total_cmp(&b.worst)) {
        println!(
            "log Z at any temperature from {} to {}: right to {:.1e} nat (worst at T = {:.2}), {:.1e} on average",
            figures.log_z_error.last().map_or(0.0, |e| e.temperature),
            figures.log_z_error.first().map_or(0.0, |e| e.temperature),
            worst.worst,
            worst.temperature,
            figures.log_z_error.iter().map(|e| e.mean).sum::<f64>() / figures.log_z_error.len() as f64,
        );
    }
    let share = |busy: f64| 100.0 * busy / seconds;
    println!(
        "busy: forward {:.0} %, selection {:.0} %, encoding and writing {:.0} % of {seconds:.0} s (they overlap)",
        share(stages.forward),
        share(stages.select),
        share(stages.write)
    );
}

fn open_writer(folder: &Path, plan: Plan, tokenizer: &[u8], replace: bool) -> Result<CacheWriter> {
    use logitcask_cache::Error::{Malformed, OtherPlan, Version};
    let error = match CacheWriter::open(folder, plan.clone(), tokenizer) {
        Ok(writer) => return Ok(writer),
        Err(error) => error,
    };
    let why = match &error {
        OtherPlan { differences, .. } => differences.join("; "),
        // A plan that this program does not read: another format's, or damaged.
        Version { .. } | Malformed { .. } => error.to_string(),
        _ => return Err(error.into()),
    };
    if !replace {
        return Err(anyhow!(error).context("use --replace to move it aside and start anew"));
    }
    eprintln!("{} is stale ({why}); moved to {}", folder.display(), move_aside(folder)?.display());
    Ok(CacheWriter::open(folder, plan, tokenizer)?)
}
