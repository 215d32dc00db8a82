//! `logitcask estimate`.

use super::fit;
use crate::answers;
use crate::args::EstimateArgs;
use crate::experiment::{Experiment, all_positions};
use crate::output::{counted, note, say};
use crate::recipe::CacheConfig;
use crate::recipe_file;
use crate::recipe_teacher::RecipeTeacher;
use crate::stop;
use crate::tail_atoms::worst_log_z;
use anyhow::{Context, Result, bail};
use indicatif::HumanBytes;
use logitcask_cache::{ArtifactRef, CacheWriter, Layout, Plan, shard_bytes};
use logitcask_core::{LogProbPrecision, PositionChoice, Sample, Selection, SoftRows, Truncation};
use logitcask_data::Dataset;
use logitcask_teach::{
    Calibration, CalibrationSet, LocalTeacher, Pipeline, StageSeconds, Teacher, calibrate, calibration_samples,
};
use std::time::Instant;

/// The values and layouts that are compared.
const FORMS: [(LogProbPrecision, Layout, &str); 3] = [
    (LogProbPrecision::F16 {}, Layout::Plain, "plain f16"),
    (LogProbPrecision::Quantised { step: 0.0625 }, Layout::Plain, "plain 1/16"),
    (LogProbPrecision::Quantised { step: 0.0625 }, Layout::Packed, "packed 1/16"),
];

/// The selections that are compared with the recipe's.
const OTHERS: [Selection; 6] = [
    Selection::TopK { k: 16 },
    Selection::TopK { k: 32 },
    Selection::TopK { k: 64 },
    Selection::TopK { k: 128 },
    Selection::TopP { p: 0.95, k: 64 },
    Selection::Sample { n: 32, seed: 0 },
];

/// One selection, measured in every form.
struct Candidate {
    name: String,
    is_recipe: bool,
    kept_mass: f64,
    log_z_error: f64,
    /// Bytes per position, in the order of [`FORMS`].
    bytes: Vec<f64>,
}

/// Estimates size, errors and time of a cache of this recipe from a few samples.
pub fn run(args: &EstimateArgs) -> Result<()> {
    let recipe = recipe_file::read(&args.recipe)?;
    let teacher = RecipeTeacher::open(&recipe, &args.recipe)?;
    // `cache` would refuse the recipe; its sizes can be estimated all the same.
    fit::check(&recipe, &args.recipe, &teacher).unwrap_or_else(|problem| note!("{problem:#}"));
    answers::make(&recipe, &teacher, args.device, false)?;
    let experiment = Experiment::of(recipe, &args.recipe, teacher)?;
    let splits = experiment.dataset.splits();
    let Some((split, _)) = splits.first().cloned() else { bail!("{}: no samples", experiment.dataset.name()) };
    experiment.check_splits().unwrap_or_else(|problem| note!("{problem:#}"));
    let (teacher, _) = experiment.load_on(&args.device)?;
    let atoms = match experiment.recipe.cache.selection {
        // A dense row has no tail, but the selections that it is compared with have one.
        Selection::Dense {} => experiment.choose_tail_atoms_of(CacheConfig::default().selection, &teacher)?,
        _ => experiment.choose_tail_atoms(&teacher)?,
    };
    let choice = experiment.positions();
    let samples = calibration_samples(&*experiment.dataset, &split, args.samples, &choice)?;
    let keeps = keeps(&experiment, atoms);
    let outcome = calibrate(&teacher, &split, &samples, &keeps, experiment.teacher.batch_tokens)?;
    let mut candidates = Vec::new();
    let plan = experiment.plan(keeps[0].clone())?;
    for (i, kept) in keeps.chunks(2).enumerate() {
        candidates.push(candidate(&plan, kept, &outcome, 2 * i)?);
    }
    let positions = all_positions(&*experiment.dataset, &choice)?;
    say!(
        "{}{} in {}; estimated from {} ({})",
        counted(positions, "positions"),
        share(&*experiment.dataset, positions)?,
        splits.iter().map(|(name, len)| format!("{name} {len}")).collect::<Vec<_>>().join(", "),
        counted(samples.len() as u64, "samples"),
        counted(outcome.positions, "positions")
    );
    say!(
        "tail: {atoms} atoms for T = {} to {}\n",
        experiment.recipe.cache.temperature_range[0],
        experiment.recipe.cache.temperature_range[1]
    );
    print_table(&candidates, positions);
    print_times(&experiment, &dry_run(&experiment, &teacher, plan)?, positions);
    Ok(())
}

/// The recipe's selection and a few others, each with f16 and with quantised values.
fn keeps(experiment: &Experiment, atoms: u32) -> Vec<Truncation> {
    let vocab_size = experiment.vocab_size();
    let mut selections = vec![experiment.recipe.cache.selection];
    let own = selections[0];
    selections.extend(OTHERS.into_iter().filter(|other| *other != own && other.check(vocab_size).is_ok()));
    let of = |selection: Selection| {
        let keep = experiment.keep_of(selection, atoms);
        [FORMS[0].0, FORMS[1].0].map(|values| Truncation { values, ..keep.clone() })
    };
    selections.into_iter().flat_map(of).collect()
}

/// Sizes and errors of the calibration's trials `first` (f16) and `first + 1` (quantised).
fn candidate(recipe: &Plan, keeps: &[Truncation], outcome: &Calibration, first: usize) -> Result<Candidate> {
    let [f16, quantised] = [&outcome.trials[first], &outcome.trials[first + 1]];
    let mut bytes = Vec::new();
    for (values, layout, _) in FORMS {
        let (keep, rows) =
            if values == (LogProbPrecision::F16 {}) { (&keeps[0], &f16.rows) } else { (&keeps[1], &quantised.rows) };
        bytes.push(bytes_per_position(&Plan { layout, keep: keep.clone(), ..recipe.clone() }, rows)?);
    }
    let soft = f16.rows.iter().flat_map(|(_, rows)| rows.iter());
    let mass: f64 = soft.map(|row| row.kept_mass()).sum();
    let plan = Plan { keep: keeps[0].clone(), ..recipe.clone() };
    Ok(Candidate {
        name: plan.selection(),
        is_recipe: plan.keep.selection == recipe.keep.selection,
        kept_mass: mass / outcome.positions.max(1) as f64,
        log_z_error: worst_log_z(&f16.errors),
        bytes,
    })
}

/// Bytes that one more position adds to a shard: the difference between a shard of all rows and one of the first half.
/// Footers and dictionaries, which many positions share, cancel out.
fn bytes_per_position(plan: &Plan, rows: &[(Sample, SoftRows)]) -> Result<f64> {
    let size = |count: usize| -> Result<(u64, usize)> {
        let rows = &rows[..count];
        let (splits, samples_per_unit) = (Plan::splits_of(&[("train".to_owned(), count as u64)]), count as u64);
        Ok((
            shard_bytes(&Plan { splits, samples_per_unit, ..plan.clone() }, rows)?,
            rows.iter().map(|(_, soft)| soft.len()).sum(),
        ))
    };
    let ((all, positions), (half, before)) = (size(rows.len())?, size(rows.len() / 2)?);
    Ok(all.saturating_sub(half) as f64 / (positions - before).max(1) as f64)
}

/// The share of all positions that these are, in words; nothing if they are all.
fn share(dataset: &dyn Dataset, positions: u64) -> Result<String> {
    let all = all_positions(dataset, &PositionChoice::All {})?;
    let percent = 100.0 * positions as f64 / all.max(1) as f64;
    Ok(if positions == all { String::new() } else { format!(" ({percent:.1} % of all)") })
}

fn print_table(candidates: &[Candidate], positions: u64) {
    say!("{:<22} {:>9} {:>11}  bytes per token, whole dataset", "", "kept mass", "log Z error");
    let forms: String = FORMS.iter().map(|(_, _, name)| format!("  {name:>20}")).collect();
    say!("{:<22} {:>9} {:>11}{forms}", "keeps", "at T = 1", "worst, nat");
    for Candidate { name, is_recipe, kept_mass, log_z_error, bytes } in candidates {
        let name = format!("{name}{}", if *is_recipe { " *" } else { "" });
        let size = |bytes: &f64| {
            let whole = HumanBytes((bytes * positions as f64) as u64).to_string();
            format!("  {bytes:>7.1} {whole:>12}")
        };
        let sizes: String = bytes.iter().map(size).collect();
        say!("{name:<22} {kept_mass:>9.4} {log_z_error:>11.1e}{sizes}");
    }
    say!("* this recipe\n");
}

/// Seconds per position.
struct Pace {
    /// The teacher's forward pass alone, with all workers busy.
    forward: f64,
    /// Wall time of stage 1, whose parts overlap.
    stage_1: f64,
}

/// Batches per worker in a dry run. With fewer, the end of the run, when some workers are idle, distorts the time.
const BATCHES_A_WORKER: usize = 4;

/// Measures stage 1 on a small cache in a temporary folder.
fn dry_run(experiment: &Experiment, teacher: &LocalTeacher, plan: Plan) -> Result<Pace> {
    let batch_tokens = experiment.teacher.batch_tokens;
    let count = BATCHES_A_WORKER * teacher.workers().max(1) * batch_tokens.div_ceil(experiment.dataset.max_length());
    let split = plan.splits.first().map(|split| split.name.clone()).unwrap_or_default();
    // As the dataset marks them: the pipeline makes the plan's choice among these.
    let marked = PositionChoice::Marked {};
    let samples = calibration_samples(&*experiment.dataset, &split, count as u64, &marked)?;
    let set = CalibrationSet { samples, split };
    let positions = all_positions(&set, &plan.positions)?;
    let (splits, samples_per_unit) = (Plan::splits_of(&set.splits()), set.samples.len() as u64);
    let dataset = ArtifactRef { name: set.name().to_owned(), fingerprint: set.fingerprint() };
    let folder = tempfile::tempdir().context("cannot create a temporary folder for the dry run")?;
    let plan = Plan { splits, samples_per_unit, dataset, ..plan };
    let writer = CacheWriter::open(&folder.path().join("cache"), plan, experiment.tokenizer.json())?;
    let start = Instant::now();
    let mut stages = StageSeconds::default();
    let stop = stop::flag("stopping once the units that were begun are measured");
    Pipeline { dataset: &set, teacher, writer: &writer, batch_tokens }.run(stop, &mut stages, &|_| {})?;
    let per_position = |seconds: f64| seconds / positions.max(1) as f64;
    Ok(Pace { forward: per_position(stages.forward), stage_1: per_position(start.elapsed().as_secs_f64()) })
}

fn print_times(experiment: &Experiment, pace: &Pace, positions: u64) {
    let (forward, stage_1) = (pace.forward * positions as f64, pace.stage_1 * positions as f64);
    say!("stage 1 on this device: about {}", duration(stage_1));
    let Some(train) = &experiment.recipe.train else { return };
    let train_len = experiment.dataset.splits().first().map_or(1, |(_, len)| *len).max(1);
    let samples: u64 = experiment.dataset.splits().iter().map(|(_, len)| len).sum();
    let seen = train.steps * train.batch_size as u64;
    let in_loop = forward * seen as f64 / samples.max(1) as f64;
    say!(
        "a student of this recipe sees {} ({:.1} epochs): with the teacher in the loop, every run would spend \
         {} in the teacher; caching pays off after {}",
        counted(seen, "samples"),
        seen as f64 / train_len as f64,
        duration(in_loop),
        counted((stage_1 / in_loop.max(1e-9)).ceil() as u64, "runs")
    );
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.1} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}
