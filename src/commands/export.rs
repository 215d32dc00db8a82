//! `logitcask export`.

use crate::args::ExportArgs;
use crate::caches;
use crate::models;
use crate::output::say;
use crate::paths::are_one;
use crate::progress::Progress;
use crate::stop;
use crate::summary::CacheFigures;
use crate::tokenizers;
use anyhow::{Result, anyhow, bail};
use logitcask_cache::{Layout, PLAN_NAME, convert};
use logitcask_model::{DeviceChoice, Precision, export};

/// Writes a model as a Hugging Face folder, or a cache in another layout.
pub fn run(args: &ExportArgs) -> Result<()> {
    let (is_cache, source) = (args.source.join(PLAN_NAME).exists(), args.source.display());
    match (is_cache, args.layout, args.precision) {
        (true, Some(_), Some(_)) => {
            bail!("{source}: this is a cache, whose values cannot be changed; leave out --precision")
        }
        (true, Some(layout), None) => export_cache(args, layout),
        (true, None, _) => bail!("{source}: this is a cache; name the layout to write it in with --layout"),
        (false, Some(_), _) => {
            bail!("{source}: this is not a cache, and only caches have a layout; leave out --layout")
        }
        (false, None, precision) => export_model(args, precision.unwrap_or_default()),
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
    let progress = Progress::new("converting", "shards", cache.plan().unit_count() as u64);
    if args.out.ancestors().any(|place| are_one(place, &args.source)) {
        bail!("{}: this is, or is inside, the cache that is read; name another folder", args.out.display());
    }
    let manifest = convert(&cache, &args.out, layout, stop::flag(), &mut || progress.add(1))?;
    progress.finish();
    let was_complete = progress.done() == 0;
    let manifest = manifest.ok_or_else(|| anyhow!("stopped; run the same command again to continue"))?;
    let after = CacheFigures::of(&manifest);
    say!(
        "{}: {}cache id {}, {} layout, {:.2} bytes per kept class ({:.2} before)",
        args.out.display(),
        if was_complete { "already complete, " } else { "" },
        after.cache_id.short(),
        layout.name(),
        after.bytes_per_entry,
        before.bytes_per_entry
    );
    Ok(())
}
