//! `logitcask train` of a recipe with `[generations]`, in which every student is the teacher of the next one.

use super::{cache, train};
use crate::args::{CacheArgs, TrainArgs};
use crate::output::{note, say};
use crate::paths::replace_file;
use crate::recipe::{Generations, Recipe, TeacherConfig, name};
use crate::recipe_file;
use crate::summary::Summary;
use anyhow::{Context, Result};
use logitcask_train::LossConfig;
use std::path::{Path, PathBuf};

/// Trains generation 0 on labels alone, then caches each student's logits and trains the next one from them. Finished
/// generations are not repeated.
pub(super) fn run(args: &TrainArgs, recipe: &Recipe, generations: Generations) -> Result<()> {
    if args.control {
        note!("--control is ignored: generation 0 is already trained on the labels alone");
    }
    let folder = args.out.clone().unwrap_or_else(|| Path::new("data/runs").join(name(&args.recipe)));
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    let mut teacher: Option<PathBuf> = None;
    let mut summaries = Vec::new();
    for generation in 0..=generations.count {
        let run = folder.join(format!("generation-{generation}"));
        let path = run.with_extension("toml");
        let derived = derived(recipe, teacher.as_deref(), &run.with_extension("cache"));
        replace_file(&path, toml::to_string(&derived)?.as_bytes())?;
        say!("\ngeneration {generation}, {}", path.display());
        if teacher.is_some() {
            cache::run(&CacheArgs { recipe: path.clone(), device: args.device, replace: args.replace })?;
        }
        let TrainArgs { device, seed, .. } = args.clone();
        let args = TrainArgs {
            recipe: path.clone(),
            device,
            seed,
            control: false,
            out: Some(run.clone()),
            replace: args.replace,
        };
        train::run(&args, recipe_file::read(&path)?)?;
        summaries.push(Summary::read(&run)?);
        teacher = Some(run.join("student/model"));
    }
    say!("\n{:<12} {:>12}", "generation", "perplexity");
    for (generation, summary) in summaries.iter().enumerate() {
        say!("{generation:<12} {:>12.3}", summary.student.perplexity);
    }
    Ok(())
}

/// The recipe of a generation: without a teacher it learns from labels alone, otherwise from the previous student.
fn derived(recipe: &Recipe, teacher: Option<&Path>, cache: &Path) -> Recipe {
    let mut derived = Recipe { generations: None, ..recipe.clone() };
    match teacher {
        None => derived.loss = LossConfig::LABELS,
        Some(model) => {
            derived.tokenizer = None;
            derived.teacher = Some(TeacherConfig::of(model.to_owned()));
            derived.cache.path = Some(cache.to_owned());
        }
    }
    derived
}
