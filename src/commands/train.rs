//! `logitcask train`.

use super::generations;
use crate::args::TrainArgs;
use crate::progress::Progress;
use crate::recipe::{Recipe, move_aside, name};
use crate::stop;
use crate::summary::{CacheFigures, CacheRun, Seconds, Summary};
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::{CacheReader, Plan};
use logitcask_core::{Keep, TargetRule};
use logitcask_data::TextDataset;
use logitcask_data::tokenizer::TextTokenizer;
use logitcask_model::{Device, Llama, LlamaConfig, LogitsModel, ModelFiles, Precision, export};
use logitcask_train::checkpoint::{Checkpoints, State};
use logitcask_train::similarity::Similarity;
use logitcask_train::{Evaluation, LossConfig, Source, TrainConfig, Trainer, eval};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What a run folder belongs to.
#[derive(Serialize, Deserialize)]
struct Identity {
    recipe: Recipe,
    data: String,
}

/// Where samples come from, and what the student inherits from there.
struct Teaching {
    source: Source,
    tokenizer: TextTokenizer,
    vocab_size: usize,
    max_length: usize,
    /// Root of the cache or fingerprint of the dataset.
    data: String,
    cache: Option<CacheReader>,
}

/// Trains the recipe's student (and its control), judges them, and exports the student.
pub fn run(args: &TrainArgs) -> Result<()> {
    let mut recipe = Recipe::read(&args.recipe)?;
    if let Some(generations) = recipe.generations {
        return generations::run(args, &recipe, generations);
    }
    let (Some(student), Some(train)) = (recipe.student.clone(), recipe.train.as_mut()) else {
        bail!("{}: a run needs [student] and [train]", args.recipe.display());
    };
    train.seed = args.seed.unwrap_or(train.seed);
    let train = train.clone();
    let teaching = open_teaching(&recipe, &args.recipe)?;
    if ![0, teaching.vocab_size].contains(&student.vocab_size) {
        let classes = teaching.vocab_size;
        bail!(
            "[student] vocab_size = {}, but what it learns from has {classes} classes; leave it out",
            student.vocab_size
        );
    }
    let student =
        LlamaConfig { bos_token_id: teaching.tokenizer.bos(), eos_token_id: teaching.tokenizer.end(), ..student }
            .resolved(teaching.vocab_size, teaching.max_length)
            .map_err(|e| anyhow!("{}: [student] {e}", args.recipe.display()))?;
    recipe.student = Some(student.clone());
    let folder = args.out.clone().unwrap_or_else(|| Path::new("data/runs").join(name(&args.recipe)));
    // What would be missed at the end is better missed now.
    let validation = (train.validate_every > 0).then_some("validation");
    for split in [Some("train"), validation, Some(recipe.eval.split.as_str())].into_iter().flatten() {
        teaching.source.len(split)?;
    }
    let _lock = claim(&folder, &Identity { recipe: recipe.clone(), data: teaching.data.clone() }, args.replace)?;

    let (device, device_name) = args.device.open()?;
    eprintln!("student of {:.2} M parameters on {device_name}", student.parameters() as f64 / 1e6);
    let similarity = similarity(&recipe, &device)?;
    let run =
        Run { recipe: &recipe, student: &student, train: &train, teaching: &teaching, device: &device, similarity };
    let (model, student_seconds) = run.train("student", &recipe.loss, &folder)?;
    let control = match args.control && recipe.loss.needs_teacher() {
        true => Some(run.train("control", &LossConfig::LABELS, &folder)?),
        false => None,
    };
    if args.control && control.is_none() {
        eprintln!("no control: with alpha = 0 the student itself is trained on the labels alone");
    }

    let start = Instant::now();
    let judge = |model: &Llama| -> Result<Evaluation> {
        eval::evaluate(model, &teaching.source, &recipe.eval.split, stop::flag())?
            .ok_or_else(|| anyhow!("stopped during evaluation; run the same command again to go on"))
    };
    let summary = Summary {
        student: judge(&model)?,
        control: control.as_ref().map(|(model, _)| judge(model)).transpose()?,
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

fn open_teaching(recipe: &Recipe, path: &Path) -> Result<Teaching> {
    if let Some(config) = &recipe.tokenizer {
        let tokenizer = TextTokenizer::from_json_file(&config.path, config.end)?;
        let dataset = TextDataset::load(&recipe.dataset, &tokenizer, recipe.cache.max_length)?;
        return Ok(Teaching {
            data: dataset.fingerprint().to_string(),
            vocab_size: tokenizer.vocab_size() as usize,
            max_length: recipe.cache.max_length,
            source: Source::Labels(Arc::new(dataset)),
            tokenizer,
            cache: None,
        });
    }
    let folder = recipe.cache_folder(path);
    let cache = CacheReader::open(&folder)
        .with_context(|| format!("no cache to train from; `logitcask cache {}` makes it", path.display()))?;
    let plan = cache.plan();
    agrees(recipe, plan).with_context(|| {
        format!("{}: stale; `logitcask cache {} --replace` makes it anew", folder.display(), path.display())
    })?;
    let json = std::fs::read(cache.tokenizer_path()).with_context(|| cache.tokenizer_path().display().to_string())?;
    let source = match recipe.loss.second.as_ref().filter(|_| recipe.loss.needs_teacher()) {
        None => Source::Cache(cache.clone()),
        Some(second) => {
            let second =
                CacheReader::open(&second.cache).context("[loss] second: no cache to learn from beside the first")?;
            Source::both(cache.clone(), second)?
        }
    };
    Ok(Teaching {
        data: source.name(),
        tokenizer: TextTokenizer::from_json_bytes(&json, &[], plan.end)?,
        vocab_size: plan.vocab_size as usize,
        max_length: plan.max_length as usize,
        source,
        cache: Some(cache),
    })
}

/// How alike the recipe's teacher finds its classes, where that is the target: the one thing of it that no cache holds.
fn similarity(recipe: &Recipe, device: &Device) -> Result<Option<Arc<Similarity>>> {
    let TargetRule::Similar { classes, temperature } = recipe.loss.target else { return Ok(None) };
    let Some(teacher) = recipe.teacher.as_ref().filter(|_| recipe.loss.needs_teacher()) else { return Ok(None) };
    let model = ModelFiles::open(&teacher.model)
        .and_then(|files| files.load(device, Precision::F32))
        .context("[loss] target: likeness of classes is read from the teacher's head")?;
    Ok(Some(Arc::new(Similarity::of_head(model.head(), classes as usize, temperature)?)))
}

/// The recipe's half of the cache must be what the cache was made with: the run records it as its own.
fn agrees(recipe: &Recipe, plan: &Plan) -> Result<()> {
    let json = serde_json::to_string::<Keep>;
    let pairs = [
        ("layout", recipe.cache.layout.name().to_owned(), plan.layout.name().to_owned()),
        // The number of atoms is the cache's own choice.
        ("content", json(&recipe.cache.keep(plan.keep.atoms() as u32))?, json(&plan.keep)?),
        ("max_length", recipe.cache.max_length.to_string(), plan.max_length.to_string()),
    ];
    match pairs.iter().find(|(_, wanted, there)| wanted != there) {
        Some((key @ "max_length", wanted, there)) => bail!(
            "[cache] {key} is {wanted} in the recipe and {there} in the cache: other windows put other words before a \
             token, and what the teacher said there would not fit (for students that read only the first tokens of each \
             window there is [train] max_length)"
        ),
        Some((key, wanted, there)) => bail!("[cache] {key} is {wanted} in the recipe and {there} in the cache"),
        None => Ok(()),
    }
}

/// Makes the run folder, or checks that it belongs to the same recipe and data; it is ours while the file lives.
fn claim(folder: &Path, identity: &Identity, replace: bool) -> Result<File> {
    let path = folder.join("recipe.toml");
    let text = format!(
        "# The resolved recipe of this run; `data` is the root of the cache (or the dataset) it was trained on.\n{}",
        toml::to_string(identity)?
    );
    if let Ok(old) = std::fs::read_to_string(&path) {
        // Held until the old folder has its new name: a run at work in it is not moved away under its feet.
        let held = lock(folder)?;
        if old == text {
            return Ok(held);
        }
        if !replace {
            bail!(
                "{} holds a run of another recipe, seed or cache; name another folder with --out, or use --replace to move it aside",
                folder.display()
            );
        }
        eprintln!("{} is of another recipe or cache; moved to {}", folder.display(), move_aside(folder)?.display());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    let lock = lock(folder)?;
    std::fs::write(&path, text).with_context(|| format!("{}: cannot write it", path.display()))?;
    Ok(lock)
}

/// Two runs in one folder would write over each other's checkpoints.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("{}: cannot create it", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{}: another run is at work in this folder", folder.display()),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("{}: cannot lock it", path.display())),
    }
}

struct Run<'a> {
    recipe: &'a Recipe,
    student: &'a LlamaConfig,
    train: &'a TrainConfig,
    teaching: &'a Teaching,
    device: &'a Device,
    similarity: Option<Arc<Similarity>>,
}

impl Run<'_> {
    /// Trains one model into `folder/name` and exports it; returns it with the seconds all its calls spent.
    fn train(&self, name: &str, loss: &LossConfig, folder: &Path) -> Result<(Llama, f64)> {
        let folder: PathBuf = folder.join(name);
        let done = Checkpoints::new(&folder).state()?.step;
        if done > 0 {
            eprintln!("{name}: going on after step {done}");
        }
        let progress = Progress::new(name, "steps", self.train.steps - done.min(self.train.steps));
        let trainer = Trainer {
            model: self.student,
            config: self.train,
            loss,
            source: &self.teaching.source,
            folder: &folder,
            device: self.device,
            similarity: self.similarity.clone().filter(|_| loss.needs_teacher()),
        };
        let outcome = trainer.run(stop::flag(), &mut |step| {
            progress.note(format!("loss {:.3}", step.loss));
            progress.add(1);
        })?;
        progress.finish();
        if !outcome.state.finished {
            bail!(
                "stopped after step {} of {}; run the same command again to go on",
                outcome.state.step,
                self.train.steps
            );
        }
        let State { seconds, waited, .. } = outcome.state;
        eprintln!("{name}: {waited:.2} s of {seconds:.1} s waiting for data ({:.1} %)", 100.0 * waited / seconds);
        let tokenizer = self.teaching.tokenizer.json();
        export::export(&outcome.model, self.recipe.export.precision, Some(tokenizer), &folder.join("model"))?;
        Ok((outcome.model, seconds))
    }
}

fn print_table(summary: &Summary, folder: &Path, split: &str) {
    println!("\n{:<10} {:>12} {:>15} {:>17}", format!("on {split}"), "perplexity", "KL to teacher", "top-1 agreement");
    let rows = [("student", Some(&summary.student)), ("control", summary.control.as_ref())];
    for (name, row) in rows.iter().filter_map(|(name, row)| Some((name, (*row)?))) {
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        println!(
            "{name:<10} {:>12.3} {:>15} {:>17}",
            row.perplexity,
            number(row.kl_to_teacher, 4),
            number(row.top1_agreement, 4)
        );
    }
    println!("\n{}", folder.join("student/model").display());
}
