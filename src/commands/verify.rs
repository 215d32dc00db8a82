//! `logitcask verify`.

use crate::args::VerifyArgs;
use crate::caches;
use crate::experiment::Experiment;
use crate::output::{counted, say};
use crate::progress::Progress;
use crate::summary::CacheRun;
use anyhow::{Context, Result, bail};
use logitcask_cache::{CachedSample, Plan, verify};
use logitcask_core::{LogProbPrecision, Sample, SampleId, SoftRow, SoftRows};
use logitcask_teach::calibrate;
use serde::Serialize;
use std::path::Path;

/// Tolerated difference between a stored row and the live teacher, as a multiple of that between two runs of the
/// teacher.
const SLACK: f64 = 4.0;
/// Least tolerated difference of log Z in nats, from rounding to f32 and summing in another order.
const LEAST: f64 = 1e-4;

/// The output of `--json`.
#[derive(Serialize)]
struct Findings {
    whole: bool,
    findings: Vec<verify::Finding>,
    /// Findings that do not affect readers.
    notes: Vec<verify::Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// Comparison of stored rows with the live teacher.
#[derive(Serialize)]
struct Live {
    samples: usize,
    positions: usize,
    /// Largest difference of log Z between two live runs in different batches, in nats.
    live_against_live: f64,
    /// Largest difference of log Z between stored and live rows, in nats.
    stored_against_live: f64,
    /// The tolerated difference of log Z, in nats.
    tolerance: f64,
}

/// Checks a cache; fails if it is not intact.
pub fn run(args: &VerifyArgs) -> Result<()> {
    let tier = if args.quick { verify::Tier::Structure } else { verify::Tier::Rows };
    let report = match args.json {
        true => verify(&args.cache, tier, &mut |_, _| ())?,
        false => verify_aloud(&args.cache, tier)?,
    };
    let (mut findings, notes) = (report.findings, report.notes);
    let live = match (args.live, &args.recipe) {
        (Some(count), Some(recipe)) if findings.is_empty() => {
            Some(live(&args.cache, recipe, count, &args.device, &mut findings)?)
        }
        _ => None,
    };
    let whole = findings.is_empty();
    if args.json {
        say!("{}", serde_json::to_string_pretty(&Findings { whole, findings, notes, live })?);
    } else {
        findings.iter().for_each(|finding| say!("{finding}"));
        notes.iter().for_each(|note| say!("note: {note}"));
        if let Some(live) = live {
            say!(
                "live: {}, {}; log Z differs by {:.1e} nat at most ({:.1e} between two live runs, \
                 {:.1e} tolerated)",
                counted(live.samples as u64, "samples"),
                counted(live.positions as u64, "positions"),
                live.stored_against_live,
                live.live_against_live,
                live.tolerance
            );
        }
        if whole {
            let depth = if args.quick { "structure" } else { "every hash and every row" };
            say!("{}: intact ({depth} checked)", args.cache.display());
        }
    }
    match whole {
        true => Ok(()),
        false => bail!("{}: the cache is missing parts or damaged; {}", args.cache.display(), remedy(&args.cache)),
    }
}

/// What rebuilds the damaged parts of a cache.
fn remedy(folder: &Path) -> String {
    match CacheRun::read(folder).and_then(|run| run.recipe) {
        Some(recipe) => format!(
            "`logitcask repair {recipe}` rebuilds them (without the teacher, copy the files again from where they came from)"
        ),
        None => "`logitcask import` or `logitcask export`, whichever made it, rebuilds them if it is called again with the \
                 same arguments, and `logitcask repair RECIPE` if a recipe did (without what it was made from, copy the \
                 files again from where they came from)"
            .to_owned(),
    }
}

/// Verifies with a progress bar.
pub(super) fn verify_aloud(folder: &Path, tier: verify::Tier) -> Result<verify::Report> {
    let shards = Plan::read(folder).map_or(0, |plan| plan.unit_count() as u64);
    let progress = Progress::new("verifying", "shards", shards);
    let report = verify(folder, tier, &mut |_, _| progress.add(1))?;
    progress.finish();
    Ok(report)
}

/// Runs the teacher again on `count` samples of every split and compares the rows.
fn live(
    folder: &Path,
    recipe: &Path,
    count: u64,
    device: &logitcask_model::DeviceChoice,
    findings: &mut Vec<verify::Finding>,
) -> Result<Live> {
    let cache = caches::open(folder)?;
    let experiment = Experiment::open(recipe)?;
    let differences = cache.plan().differences(&experiment.plan_with_atoms_and_versions_of(cache.plan())?);
    if !differences.is_empty() {
        bail!("the cache was not made from {}: {}", recipe.display(), differences.join("; "));
    }
    let (teacher, _) = experiment.load_on(device)?;
    let mut out = Live { samples: 0, positions: 0, live_against_live: 0.0, stored_against_live: 0.0, tolerance: LEAST };
    let mut compared = Vec::new();
    for split in cache.splits() {
        let len = cache.len(split)?;
        let stored: Vec<CachedSample> = (0..count.min(len))
            .map(|i| cache.get(split, SampleId(i * len / count.min(len))))
            .collect::<Result<_, _>>()?;
        let samples: Vec<Sample> = stored.iter().map(|row| row.sample.clone()).collect();
        let keeps = [cache.plan().keep.clone()];
        // In batches, and one by one: another shape of batch changes the last bits about as much as another device.
        let [together, alone] = [experiment.teacher.batch_tokens, 1]
            .map(|batch_tokens| calibrate(&teacher, split, &samples, &keeps, batch_tokens).context("the live teacher"));
        for ((stored, (_, a)), (_, b)) in stored.into_iter().zip(&together?.trials[0].rows).zip(&alone?.trials[0].rows)
        {
            out.samples += 1;
            out.positions += a.len();
            out.live_against_live = out.live_against_live.max(log_z_difference(a, b));
            out.stored_against_live = out.stored_against_live.max(log_z_difference(&stored.rows, a));
            compared.push((split.to_owned(), stored, a.clone()));
        }
    }
    out.tolerance = LEAST.max(SLACK * out.live_against_live);
    for (split, stored, live) in compared {
        if let Some(what) = difference(&stored.rows, &live, cache.plan().keep.values, out.tolerance) {
            let unit = cache.plan().unit_of(&split, stored.sample.id.0).unwrap_or_default();
            let row = stored.sample.id.0 - cache.plan().unit(unit).start;
            let file = cache.plan().shard_name(unit);
            findings.push(verify::Finding { file, unit: Some(unit), rows: Some(row..row + 1), what });
        }
    }
    Ok(out)
}

fn log_z_difference(a: &SoftRows, b: &SoftRows) -> f64 {
    a.log_z.iter().zip(&b.log_z).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// The first position at which the stored row differs from the live teacher's.
fn difference(stored: &SoftRows, live: &SoftRows, values: LogProbPrecision, tolerance: f64) -> Option<String> {
    stored.iter().zip(live.iter()).enumerate().find_map(|(position, (stored, live))| {
        let off = f64::from((stored.log_z - live.log_z).abs());
        // As below, but with the step of log_z.
        if off > tolerance + values.log_z_step() {
            return Some(format!(
                "position {position}: log_z is {}, but the teacher now computes {}",
                stored.log_z, live.log_z
            ));
        }
        let id = class_that_differs(&stored, &live, values, tolerance)?;
        Some(format!("position {position}: the teacher now gives class {id} another log-probability"))
    })
}

/// A class kept in both whose log-probabilities differ by more than the tolerance and one step of rounding.
fn class_that_differs(
    stored: &SoftRow<'_>,
    live: &SoftRow<'_>,
    values: LogProbPrecision,
    tolerance: f64,
) -> Option<u32> {
    let there = |id: &u32| live.class_ids.iter().position(|other| other == id);
    stored.class_ids.iter().zip(stored.log_probs).find_map(|(id, lp)| {
        let other = live.log_probs[there(id)?];
        // Values on either side of a rounding boundary are stored one step apart.
        let step = match values {
            LogProbPrecision::F16 {} => f64::from(lp.abs()) / 1024.0,
            LogProbPrecision::Quantised { step } => step,
        };
        (f64::from((lp - other).abs()) > tolerance + step).then_some(*id)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use logitcask_core::{RowErrors, RowSource, Selection, TailRule, Truncation, select::select_reference};

    /// The stored row of one position with these logits.
    fn rows(logits: &[f32], values: LogProbPrecision) -> SoftRows {
        let tail = Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 3 });
        let keep = Truncation {
            selection: Selection::TopK { k: 3 },
            always_keep: Vec::new(),
            values,
            tail,
            padding: 0,
            source: RowSource::FULL,
        };
        let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
        select_reference(logits, 2, &keep, 0.0, &mut rows, &mut errors);
        rows
    }

    #[test]
    fn another_teacher_is_recognised_by_log_z_and_by_its_classes() {
        let values = LogProbPrecision::Quantised { step: 0.0625 };
        let logits = [1.0, 3.0, 2.5, -1.0, 0.5, -2.0];
        let stored = rows(&logits, values);
        assert_eq!(difference(&stored, &rows(&logits, values), values, LEAST), None);
        // All logits are a little higher: the probabilities are the same, log Z is not.
        let higher = logits.map(|z| z + 0.01);
        let what = difference(&stored, &rows(&higher, values), values, LEAST).unwrap();
        assert!(what.contains("position 0: log_z is"), "{what}");
        assert_eq!(difference(&stored, &rows(&higher, values), values, 0.02), None, "within what is tolerated");
        // Two classes are swapped: log Z is the same, the probabilities are not.
        let mut swapped = logits;
        swapped.swap(0, 1);
        let what = difference(&stored, &rows(&swapped, values), values, LEAST).unwrap();
        assert!(what.contains("gives class 1 another log-probability"), "{what}");
        // Values on either side of a rounding boundary are stored one step apart.
        let mut near = logits;
        near[1] += 1e-6;
        assert_eq!(difference(&stored, &rows(&near, values), values, 1e-3), None);
    }
}
