//! `logitcask export`.

use super::damaged_parts::remove_damaged_parts;
use crate::args::{ExportArgs, Target};
use crate::caches;
use crate::models;
use crate::output::{note, say};
use crate::paths::are_one;
use crate::progress::Progress;
use crate::stop;
use crate::summary::CacheFigures;
use crate::tokenizers;
use anyhow::{Context, Result, anyhow, bail};
use logitcask_cache::{CacheReader, Layout, PLAN_NAME, Plan, convert};
use logitcask_import::distillkit;
use logitcask_model::{DeviceChoice, Precision, export};
use std::path::Path;

/// Writes a model as a Hugging Face folder, or a cache in another layout or for another tool.
pub fn run(args: &ExportArgs) -> Result<()> {
    let (is_cache, source) = (args.source.join(PLAN_NAME).exists(), args.source.display());
    match (is_cache, args.layout, args.to, args.precision) {
        (true, _, _, Some(_)) => bail!(
            "{source}: this is a cache, whose values cannot be changed; leave out --precision, and name a layout with \
             --layout"
        ),
        (true, Some(layout), ..) => export_cache(args, layout),
        (true, None, Some(Target::DistillKit), _) => export_distillkit(args),
        (true, None, None, _) => bail!(
            "{source}: this is a cache; name the layout to write it in with --layout, or the tool to write it for with \
             --to"
        ),
        (false, Some(_), ..) => {
            bail!("{source}: this is not a cache, and only caches have a layout; leave out --layout")
        }
        (false, None, Some(_), _) => {
            bail!("{source}: this is not a cache, and only caches are written for other tools; leave out --to")
        }
        (false, None, None, precision) => export_model(args, precision.unwrap_or_default()),
    }
}

fn export_model(args: &ExportArgs, precision: Precision) -> Result<()> {
    let files = models::open(&args.source)?;
    export::check_target(files.path(), &args.out)?;
    // Reading it checks it against the model. A tokenizer.json is then copied unchanged.
    let tokenizer = tokenizers::of_model(&files)?;
    let companions = files.companions()?;
    let (device, _) = DeviceChoice::Cpu.open()?;
    let model = files.load(&device, Precision::F32)?;
    export::export(&model, precision, Some(tokenizer.json()), &companions, &args.out)?;
    say!("{} ({:.1} M parameters, {})", args.out.display(), files.config().parameters() as f64 / 1e6, precision);
    Ok(())
}

fn export_cache(args: &ExportArgs, layout: Layout) -> Result<()> {
    let cache = caches::open(&args.source)?;
    let before = CacheFigures::of(cache.manifest());
    check_outside(args)?;
    let was_damaged = remove_damaged_parts_of_export(&cache, &args.out, layout)?;
    let progress = Progress::new("converting", "shards", cache.plan().unit_count() as u64);
    let stop = stop::flag("stopping once this shard is written");
    let manifest = convert(&cache, &args.out, layout, stop, &mut || progress.add(1))?;
    progress.finish();
    let was_complete = progress.done() == 0;
    let manifest = manifest.ok_or_else(|| anyhow!("stopped; run the same command again to continue"))?;
    let after = CacheFigures::of(&manifest);
    say!(
        "{}: {}cache id {}, {} layout, {:.2} bytes per kept class ({:.2} before)",
        args.out.display(),
        match (was_damaged, was_complete) {
            (true, _) => "repaired, ",
            (false, true) => "already complete, ",
            (false, false) => "",
        },
        after.cache_id.short(),
        layout.name(),
        after.bytes_per_entry,
        before.bytes_per_entry
    );
    Ok(())
}

/// Removes the damaged parts of a finished export; returns whether there were any.
fn remove_damaged_parts_of_export(cache: &CacheReader, out: &Path, layout: Layout) -> Result<bool> {
    let plan = Plan { layout, ..cache.plan().clone() };
    let (path, companions) = (cache.tokenizer_path(), cache.companions()?);
    let tokenizer = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let companions: Vec<_> = companions.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    remove_damaged_parts(out, plan, &tokenizer, &companions)
}

fn export_distillkit(args: &ExportArgs) -> Result<()> {
    check_outside(args)?;
    let cache = caches::open(&args.source)?;
    let progress = Progress::new("exporting", "files", cache.plan().unit_count() as u64);
    let stop = stop::flag("stopping once this file is written");
    let is_whole = distillkit::export(&cache, &args.out, stop, &mut || progress.add(1))?;
    progress.finish();
    if !is_whole {
        bail!("stopped; run the same command again to continue");
    }
    let out = args.out.display();
    for split in cache.splits() {
        say!("{out}/{split}: {} sequences, with compression_config.yaml", cache.len(split)?);
    }
    note!(
        "left out, because DistillKit has no place for it: the tail, log Z, labels that were not kept, extra columns"
    );
    Ok(())
}

/// Refuses to write into the cache that is read.
fn check_outside(args: &ExportArgs) -> Result<()> {
    if args.out.ancestors().any(|place| are_one(place, &args.source)) {
        bail!("{}: this is, or is inside, the cache that is read; name another folder", args.out.display());
    }
    Ok(())
}
