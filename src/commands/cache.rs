//! `logitcask cache`.

use super::tokenizer_of;
use crate::args::CacheArgs;
use crate::progress::Progress;
use crate::recipe::{Recipe, TeacherConfig, move_aside};
use crate::stop;
use crate::summary::{CacheFigures, CacheRun};
use anyhow::{Context, Result, anyhow};
use logitcask_cache::{CacheReader, CacheWriter, FORMAT_VERSION, Layout, Manifest, Pin, Plan};
use logitcask_core::{Fingerprint, SampleId};
use logitcask_data::TextDataset;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::ModelFiles;
use logitcask_teach::{LocalTeacher, Pipeline, StageSeconds};
use std::path::Path;
use std::time::Instant;

/// Fills the recipe's cache, or says that it is full.
pub fn run(args: &CacheArgs) -> Result<()> {
    let start = Instant::now();
    let recipe = Recipe::read(&args.recipe)?;
    let teacher = recipe.teacher.as_ref().ok_or_else(|| {
        anyhow!(
            "{}: it has no [teacher], so there is nothing to cache; `logitcask train` runs it as it is",
            args.recipe.display()
        )
    })?;
    let folder = recipe.cache_folder(&args.recipe);
    let files = ModelFiles::open(&teacher.model)?;
    let tokenizer = tokenizer_of(&files)?;
    let dataset = TextDataset::load(&recipe.dataset, &tokenizer, recipe.cache.max_length)?;
    let plan = plan(&recipe, teacher, &files, &tokenizer, &dataset)?;
    if let Ok(cache) = CacheReader::open(&folder)
        && *cache.plan() == plan
    {
        println!("{} is up to date (root {})", folder.display(), cache.root().short());
        return Ok(());
    }
    // The model comes first: one that cannot be loaded leaves no half-made cache behind.
    let (device, device_name) = args.device.open()?;
    let parameters = files.config().parameters() as f64 / 1e6;
    eprintln!("teacher {} ({parameters:.2} M parameters) on {device_name}", files.name());
    let model = files.load(&device, teacher.precision)?;
    let writer = open_writer(&folder, plan, &tokenizer.to_json()?, args.replace)?;
    let positions = positions(&writer, &dataset)?;
    let progress = Progress::new("caching", "positions", positions);
    let pipeline = Pipeline {
        dataset: &dataset,
        teacher: &LocalTeacher::new(model),
        writer: &writer,
        batch_tokens: teacher.batch_tokens,
    };
    let stages = pipeline.run(stop::flag(), &|event| match event {
        logitcask_teach::Progress::Positions(count) => progress.add(count),
        logitcask_teach::Progress::Committed { committed, units } => {
            progress.note(format!("{committed}/{units} units"));
        }
    });
    let seconds = progress.finish();
    let stages = stages.with_context(|| folder.display().to_string())?;
    let manifest = writer.finish()?;
    CacheRun { seconds: start.elapsed().as_secs_f64(), positions, device: device_name, stages: stages.into() }
        .add_to(&folder)?;
    report(&folder, &manifest, stages, seconds);
    Ok(())
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
    let share = |busy: f64| 100.0 * busy / seconds;
    println!(
        "busy: forward {:.0} %, selection {:.0} %, encoding and writing {:.0} % of {seconds:.0} s (they overlap)",
        share(stages.forward),
        share(stages.select),
        share(stages.write)
    );
}

/// Everything that decides the cache's bytes.
fn plan(
    recipe: &Recipe,
    teacher: &TeacherConfig,
    files: &ModelFiles,
    tokenizer: &TextTokenizer,
    dataset: &TextDataset,
) -> Result<Plan> {
    let vocab_size = files.config().vocab_size as u32;
    recipe.cache.selection.check(vocab_size).map_err(|e| anyhow!("[cache] selection: {e}"))?;
    let context = files.config().max_position_embeddings;
    if recipe.cache.max_length > context {
        return Err(anyhow!(
            "[cache] max_length = {} is longer than the teacher's context of {context}; its words beyond it mean nothing",
            recipe.cache.max_length
        ));
    }
    Ok(Plan {
        format_version: FORMAT_VERSION,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        layout: Layout::Plain,
        vocab_size,
        max_length: recipe.cache.max_length as u32,
        precision: teacher.precision.to_string(),
        batch_tokens: teacher.batch_tokens as u64,
        selection: recipe.cache.selection,
        teacher: Pin { name: files.name(), fingerprint: files.fingerprint()? },
        tokenizer: Pin { name: "tokenizer.json".to_owned(), fingerprint: Fingerprint::of(&tokenizer.to_json()?) },
        bos: tokenizer.bos(),
        end: tokenizer.end(),
        dataset: Pin { name: dataset.name().to_owned(), fingerprint: dataset.fingerprint() },
        units: Plan::units_of(&dataset.splits(), recipe.cache.samples_per_unit),
    })
}

fn open_writer(folder: &Path, plan: Plan, tokenizer: &[u8], replace: bool) -> Result<CacheWriter> {
    match CacheWriter::open(folder, plan.clone(), tokenizer) {
        Err(logitcask_cache::Error::OtherPlan { differences, .. }) if replace => {
            let aside = move_aside(folder)?;
            eprintln!("{} is stale ({}); moved to {}", folder.display(), differences.join("; "), aside.display());
            Ok(CacheWriter::open(folder, plan, tokenizer)?)
        }
        Err(e @ logitcask_cache::Error::OtherPlan { .. }) => {
            Err(anyhow!(e).context("use --replace to move it aside and start anew"))
        }
        other => Ok(other?),
    }
}
