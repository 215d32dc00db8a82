//! `logitcask repair`.

use super::cache::fill;
use super::verify::verify_aloud;
use crate::args::RepairArgs;
use crate::experiment::Experiment;
use anyhow::{Result, bail};
use logitcask_cache::{Plan, repair, verify};
use std::time::Instant;

/// Finds what is damaged or missing in the recipe's cache and makes just that anew.
pub fn run(args: &RepairArgs) -> Result<()> {
    let start = Instant::now();
    let experiment = Experiment::open(&args.recipe)?;
    let folder = &experiment.folder;
    let there = Plan::read(folder).ok();
    let report = verify_aloud(folder, verify::Tier::Rows)?;
    if report.is_whole() {
        println!("{}: whole, nothing to repair", folder.display());
        return Ok(());
    }
    report.findings.iter().for_each(|finding| println!("{finding}"));
    let (teacher, device) = experiment.load_on(&args.device)?;
    let atoms = match &there {
        Some(plan) => plan.keep.atoms() as u32,
        None => experiment.settle_atoms(&teacher)?,
    };
    let plan = experiment.plan(experiment.keep(atoms))?;
    let prepared = repair::prepare(folder, plan, experiment.tokenizer.json(), &report)?;
    let manifest = fill(&experiment, &teacher, &prepared.writer, (start, device))?;
    match prepared.root {
        Some(root) if root != manifest.root() => bail!(
            "{}: repaired, but its root is {} now and was {}: some rows are not what they were",
            folder.display(),
            manifest.root().short(),
            root.short()
        ),
        Some(_) => println!("{}: whole again, with the root it had", folder.display()),
        None => println!("{}: whole again, root {}", folder.display(), manifest.root().short()),
    }
    Ok(())
}
