//! `logitcask train`.

use super::cache::damaged;
use super::run_folder::{Identity, claim};
use super::student::Student;
use super::teaching::{Teaching, open_teaching};
use crate::args::TrainArgs;
use crate::experiment::missing_split_help;
use crate::models;
use crate::output::{note, say};
use crate::progress::Progress;
use crate::recipe::{Recipe, TeacherConfig, name};
use crate::recipe_check::check_prefix;
use crate::stop;
use crate::summary::{CacheFigures, CacheRun, Seconds, Summary};
use anyhow::{Context, Result, anyhow, bail};
use logitcask_core::TargetTransform;
use logitcask_model::{CausalLm, Device, Model, Precision, export};
use logitcask_train::checkpoint::{Checkpoints, Skipped, State};
use logitcask_train::mixture::check_sources;
use logitcask_train::similarity::Similarity;
use logitcask_train::{Evaluation, LossConfig, TrainConfig, Trainer, WeightedSource, eval};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Trains the recipe's student (and its control), exports and evaluates them.
pub fn run(args: &TrainArgs, mut recipe: Recipe) -> Result<()> {
    let (Some(section), Some(train)) = (recipe.student.clone(), recipe.train.as_mut()) else {
        bail!("{}: a run needs [student] and [train]", args.recipe.display());
    };
    train.seed = args.seed.unwrap_or(train.seed);
    let train = train.clone();
    let teaching = open_teaching(&recipe, &args.recipe)?;
    let student = Student::open(&section, &teaching.inheritance)
        .with_context(|| format!("{}: [student]", args.recipe.display()))?;
    recipe.student = Some(student.section.clone());
    let folder = args.out.clone().unwrap_or_else(|| Path::new("data/runs").join(name(&args.recipe)));
    refuse_misfits(&recipe, &train, &student, &teaching).with_context(|| args.recipe.display().to_string())?;
    check_splits(args, &recipe, &train, &teaching)?;
    let identity = Identity {
        recipe: recipe.clone(),
        data: teaching.data.clone(),
        source: student.source()?,
        made_from: teaching.made_from.clone(),
    };
    let (device, device_name) = crate::devices::open(args.device)?;
    // Before the folder belongs to a run that this device cannot do.
    train.precision.dtype(&device).with_context(|| format!("{}: [train] precision", args.recipe.display()))?;
    let claimed = claim(&folder, &identity, args.replace)?;
    claimed.note.iter().for_each(|text| note!("{text}"));
    teaching.describe_mixture().iter().for_each(|text| note!("{text}"));

    note!("{} on {device_name}", student.describe(&train));
    let similarity = similarity(&recipe, teaching.inheritance.vocab_size, &device)?;
    let run =
        Run { identity: &identity, student: &student, train: &train, teaching: &teaching, device: &device, similarity };
    let (model, student_seconds) = run.train("student", &recipe.loss, &folder)?;
    let control = match args.control && recipe.loss.needs_teacher() {
        true => Some(run.train("control", &LossConfig::LABELS, &folder)?),
        false => None,
    };
    if args.control && control.is_none() {
        note!("no control: with alpha = 0 the student itself is trained on the labels alone");
    }

    let start = Instant::now();
    let evaluate = |model: &Model| -> Result<Evaluation> {
        let stop = stop::flag("stopping; the evaluation begins anew");
        eval::evaluate(model, &teaching.source, &recipe.eval.split, stop)?
            .ok_or_else(|| anyhow!("stopped during evaluation; run the same command again to continue"))
    };
    let before = student.start.as_ref().map(|start| evaluate(&start.load(&device)?)).transpose()?;
    let summary = Summary {
        before,
        student: evaluate(&model)?,
        control: control.as_ref().map(|(model, _)| evaluate(model)).transpose()?,
        cache: teaching.cache.as_ref().map(|cache| CacheFigures::of(cache.manifest())),
        seconds: Seconds {
            cache: teaching.cache.as_ref().and_then(|cache| Some(CacheRun::read(cache.folder())?.seconds)),
            student: student_seconds,
            control: control.as_ref().map(|(_, seconds)| *seconds),
            eval: start.elapsed().as_secs_f64(),
        },
    };
    summary.write(&folder)?;
    print_table(&summary, &folder, &recipe.eval.split);
    Ok(())
}

/// Checks before training that the splits for evaluation exist and are intact, and that the warm-up ends.
fn check_splits(args: &TrainArgs, recipe: &Recipe, train: &TrainConfig, teaching: &Teaching) -> Result<()> {
    let validation = (train.validate_every > 0).then_some("validation");
    let evaluated = [validation, Some(recipe.eval.split.as_str())];
    let there = teaching.source.splits();
    let mut wanted = ["train"].into_iter().chain(evaluated.into_iter().flatten());
    if let Some(split) = wanted.find(|wanted| there.iter().all(|name| name != wanted)) {
        let (there, help) = (there.join(", "), missing_split_help(split, &there));
        bail!("the run needs a split `{split}`; the splits are {there}. {help}");
    }
    if let Some(cache) = &teaching.cache {
        let whole = evaluated.into_iter().flatten().try_for_each(|split| cache.check_split(split));
        whole.map_err(|error| damaged(recipe, &args.recipe, error))?;
    }
    if train.warmup > train.steps {
        note!(
            "[train] warmup = {} is longer than steps = {}: the learning rate ends before it reaches learning_rate",
            train.warmup,
            train.steps
        );
    }
    Ok(())
}

/// Refuses a recipe that needs longer windows or other rows than the data has, before anything is written.
fn refuse_misfits(recipe: &Recipe, train: &TrainConfig, student: &Student, teaching: &Teaching) -> Result<()> {
    let window = teaching.inheritance.max_length;
    check_prefix(train, window)?;
    student.check_fit(train, window)?;
    let sources = WeightedSource::all(&teaching.source, &teaching.other_sources);
    Ok(check_sources(train, &recipe.loss, &sources)?)
}

const READ_FROM_HEAD: &str = "[loss] target: the similarity of classes is computed from the teacher's head";

/// The teacher, if the target is the similarity of classes in its head.
fn head_that_is_read(recipe: &Recipe) -> Option<&TeacherConfig> {
    let is_similar = matches!(recipe.loss.target, TargetTransform::Similar { .. });
    recipe.teacher.as_ref().filter(|_| is_similar && recipe.loss.needs_teacher())
}

/// The similarity of the teacher's classes, if that is the target. It is not in the cache.
fn similarity(recipe: &Recipe, vocab_size: usize, device: &Device) -> Result<Option<Arc<Similarity>>> {
    let TargetTransform::Similar { classes, temperature } = recipe.loss.target else { return Ok(None) };
    let Some(teacher) = head_that_is_read(recipe) else { return Ok(None) };
    let model = models::open(&teacher.model).and_then(|files| Ok(files.load(device, Precision::F32)?));
    // `is_of` has checked that this is the cache's teacher. Rows of its head that belong to no token are left out.
    let head = model.context(READ_FROM_HEAD)?.head().weights().narrow(1, 0, vocab_size);
    Ok(Some(Arc::new(Similarity::of_head(head, classes as usize, temperature)?)))
}

struct Run<'a> {
    identity: &'a Identity,
    student: &'a Student,
    train: &'a TrainConfig,
    teaching: &'a Teaching,
    device: &'a Device,
    similarity: Option<Arc<Similarity>>,
}

impl Run<'_> {
    /// Trains one model in `folder/name` and exports it. Returns it with its wall time in seconds, over all calls.
    fn train(&self, name: &str, loss: &LossConfig, folder: &Path) -> Result<(Model, f64)> {
        let folder: PathBuf = folder.join(name);
        let checkpoints = Checkpoints::open(&folder, self.identity.id(loss)?)?;
        let before = checkpoints.state();
        let done = before.step;
        for Skipped { path, problem } in checkpoints.skipped() {
            note!("{name}: {}: skipped, because {problem}", path.display());
        }
        if before.finished {
            note!("{name}: training is already complete ({done} steps)");
        } else if done > 0 {
            note!("{name}: continuing after step {done} of {}", self.train.steps);
        }
        let progress = Progress::new(name, "steps", self.train.steps - done.min(self.train.steps));
        let trainer = Trainer {
            model: &self.student.config,
            start: self.student.start.as_ref(),
            config: self.train,
            loss,
            source: &self.teaching.source,
            other_sources: &self.teaching.other_sources,
            folder: &folder,
            device: self.device,
            similarity: self.similarity.clone().filter(|_| loss.needs_teacher()),
        };
        let stop = stop::flag("stopping once this step and a checkpoint are finished");
        let outcome = trainer.run(checkpoints, stop, &mut |step| {
            progress.note(format!("loss {:.3}", step.loss));
            progress.add(1);
        })?;
        progress.finish();
        if !outcome.state.finished {
            bail!(
                "stopped after step {} of {}; run the same command again to continue",
                outcome.state.step,
                self.train.steps
            );
        }
        let State { seconds, waited, .. } = outcome.state;
        if outcome.state.step > done {
            // Of this call alone, as the line about its steps; the summary has the sum over all calls.
            let (seconds, waited) = (seconds - before.seconds, waited - before.waited);
            note!("{name}: {waited:.2} s of {seconds:.1} s waiting for data ({:.1} %)", 100.0 * waited / seconds);
        }
        let (precision, student) = (self.identity.recipe.export.precision, self.student);
        let target = folder.join("model");
        export::export(&outcome.model, precision, Some(&student.tokenizer), &student.companions, &target)?;
        Ok((outcome.model, seconds))
    }
}

fn print_table(summary: &Summary, folder: &Path, split: &str) {
    say!("\n{:<10} {:>12} {:>15} {:>17}", format!("on {split}"), "perplexity", "KL to teacher", "top-1 agreement");
    let rows = [
        ("before", summary.before.as_ref()),
        ("student", Some(&summary.student)),
        ("control", summary.control.as_ref()),
    ];
    for (name, row) in rows.iter().filter_map(|(name, row)| Some((name, (*row)?))) {
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        say!(
            "{name:<10} {:>12.3} {:>15} {:>17}",
            row.perplexity,
            number(row.kl_to_teacher, 4),
            number(row.top1_agreement, 4)
        );
    }
    say!("\n{}", folder.join("student/model").display());
}
