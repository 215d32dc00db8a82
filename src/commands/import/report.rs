//! What an import says at its end.

use crate::output::say;
use crate::summary::CacheFigures;
use logitcask_cache::{Manifest, Plan};
use logitcask_core::{GoldSource, TailSource};
use logitcask_import::{MASS_TOLERANCE, Tally};
use std::path::Path;

/// Shows the cache, and what was found in the positions that were taken over.
pub(super) fn report(folder: &Path, plan: &Plan, manifest: &Manifest, tally: Tally, was_damaged: bool) {
    let figures = CacheFigures::of(manifest);
    let repaired = if was_damaged { "repaired, " } else { "" };
    say!("{}: {repaired}{}", folder.display(), figures.line());
    let Tally { positions, sorted, above_one, renormalised, labels_kept } = tally;
    if positions == 0 {
        say!("everything was there already");
        return;
    }
    say!("of {positions} positions that were imported now");
    say!("  {sorted} had values that were not in falling order, and were sorted anew");
    say!("  {renormalised} held more than 1 of the probability, and were divided by it");
    if above_one > 0 {
        say!("  {above_one} hold up to {} of the probability, which is put down to rounding", 1.0 + MASS_TOLERANCE);
    }
    if plan.keep.source.gold == GoldSource::Kept {
        say!("  {labels_kept} have their label among the kept classes; of the others nothing is known of the label");
    }
    say_recipe(folder, plan);
}

/// Shows the lines that a recipe for the cache needs.
pub(super) fn say_recipe(folder: &Path, plan: &Plan) {
    say!("the files told {}; a recipe for this cache has [student], [train] and", plan.keep.source);
    say!("  [cache]");
    say!("  path = \"{}\"", folder.display());
    say!("  [loss]");
    say!("  alpha = 0.9               # the teacher's share of the loss; the labels have the rest");
    match plan.keep.source.tail {
        TailSource::None => say!("  tail = \"renorm\""),
        TailSource::Mass => say!("  temperature = 1.0         # or any with tail = \"renorm\""),
        TailSource::Atoms => {
            let range = plan.keep.tail.map(|tail| (tail.lowest_temperature, tail.highest_temperature));
            let (lowest, highest) = range.unwrap_or((0.0, f64::INFINITY));
            say!("  temperature = 1.0         # or any from {lowest} to {highest}");
        }
    }
    if let (None, Some(split)) = (plan.splits.iter().find(|split| split.name == "test"), plan.splits.last()) {
        say!("  [eval]");
        say!("  split = \"{}\"", split.name);
    }
}
