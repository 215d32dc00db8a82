//! `logitcask generate`.

use super::texts::Texts;
use super::{answer, corpus};
use crate::args::GenerateArgs;
use crate::devices;
use crate::output::{counted, note, say};
use crate::paths::{refuse_existing, refuse_unwritable};
use crate::stop;
use anyhow::{Result, bail};
use logitcask_teach::generate::Continuation;
use std::path::Path;

/// Generates texts, or answers prompts.
pub fn run(args: &GenerateArgs) -> Result<()> {
    match (&args.prompts, &args.out) {
        (Some(prompts), Some(out)) => {
            check_name(out)?;
            answer::run(args, prompts, out)
        }
        (None, Some(out)) => {
            refuse_existing(out)?;
            check_name(out)?;
            corpus::run(args, out)
        }
        _ => to_screen(args),
    }
}

/// Refuses a path that cannot become a Parquet file.
fn check_name(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "parquet") {
        bail!("{}: a dataset is written as a Parquet file; its name must end in .parquet", path.display());
    }
    refuse_unwritable(path)
}

/// Prints texts. After a stop, only those that ended with an end token are complete.
fn to_screen(args: &GenerateArgs) -> Result<()> {
    let texts = Texts::of(args)?;
    let (device, _) = devices::open(args.device)?;
    let all: Vec<usize> = (0..texts.batches()).collect();
    let written =
        texts.write(&device, &all, "stopping; texts that have not ended are dropped", |_, batch| Ok(batch))?;
    let is_stopped = stop::was_asked();
    let is_kept = |text: &&Continuation| text.is_finished || !(args.finished_only || is_stopped);
    let mut count = 0;
    for text in written.iter().flatten().filter(is_kept) {
        say!("{}\n", texts.text(text.text())?);
        count += 1;
    }
    match count {
        _ if is_stopped => {
            bail!("stopped: {count} of {} were finished, the others were dropped", counted(args.count, "texts"))
        }
        0 => note!("no text was finished, so nothing is written"),
        _ => {}
    }
    Ok(())
}
