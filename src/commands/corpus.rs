//! `logitcask generate --out`: texts that become a dataset.

use super::texts::Texts;
use crate::args::GenerateArgs;
use crate::devices;
use crate::output::{counted, note, say};
use crate::parts::{Parts, WrittenText};
use crate::paths::refuse_existing;
use crate::stop;
use anyhow::{Result, bail};
use logitcask_core::rng::CounterRng;
use logitcask_data::{diversity, write_corpus};
use logitcask_teach::generate::Continuation;
use std::path::Path;

/// Writes the texts batch by batch, or the batches that an earlier run did not write, and then all into one file.
pub(super) fn run(args: &GenerateArgs, out: &Path) -> Result<()> {
    let texts = Texts::of(args)?;
    let (device, device_name) = devices::open(args.device)?;
    let parts = Parts::open(out, &texts.record()?, texts.batch_size() as usize)?;
    // Another process may have finished it while this one came to it.
    refuse_existing(out)?;
    let read = |index: usize| parts.read(index, numbers(&texts, index));
    let all = 0..texts.batches();
    let mut pending = Vec::new();
    for index in all.clone() {
        if read(index)?.is_none() {
            pending.push(index);
        }
    }
    note!("{} writes {} on {device_name}", texts.model(), counted(args.count, "texts"));
    if pending.len() < all.len() {
        note!("{} of {} batches are already written", all.len() - pending.len(), all.len());
    }
    if !pending.is_empty() {
        let on_stop = "stopping; batches that are not finished are dropped";
        texts.write(&device, &pending, on_stop, |index, written| match stop::was_asked() {
            true => Ok(()),
            false => parts.write(index, &numbered(&texts, index, written)),
        })?;
        if stop::was_asked() {
            return Err(parts.stopped());
        }
    }
    let mut written = Vec::new();
    for index in all {
        let Some(part) = read(index)? else { bail!("{}: a part is gone", parts.folder().display()) };
        written.extend(part);
    }
    join(args, out, &texts, &written)?;
    parts.remove()
}

/// The numbers of a batch's texts.
fn numbers(texts: &Texts<'_>, index: usize) -> impl Iterator<Item = usize> {
    texts.batch(index).map(|text| text as usize)
}

fn numbered(texts: &Texts<'_>, index: usize, written: Vec<Continuation>) -> Vec<WrittenText> {
    let text = |(index, text): (usize, Continuation)| {
        let (tokens, is_finished) = (text.text().to_vec(), text.is_finished);
        WrittenText { index, tokens, is_finished }
    };
    numbers(texts, index).zip(written).map(text).collect()
}

/// Writes the texts into one file.
fn join(args: &GenerateArgs, path: &Path, texts: &Texts<'_>, written: &[WrittenText]) -> Result<()> {
    let unfinished = written.iter().filter(|text| !text.is_finished).count();
    let kept = written.iter().filter(|text| text.is_finished || !args.finished_only);
    let corpus: Vec<String> = kept.map(|text| texts.text(&text.tokens)).collect::<Result<_>>()?;
    if corpus.is_empty() {
        bail!(
            "no text reached an end token, so that none is left with --finished-only; without it, the same command writes \
             them as they are"
        );
    }
    let report = diversity(&corpus);
    let corpus: Vec<(String, &str)> =
        corpus.into_iter().enumerate().map(|(i, text)| (text, split(args.seed, i as u64))).collect();
    write_corpus(path, &corpus)?;
    let share = |count: usize| 100.0 * count as f64 / report.documents.max(1) as f64;
    say!(
        "{}: {} ({unfinished} of {} {}), {:.2} % exact duplicates, {:.2} % near-duplicates",
        path.display(),
        counted(report.documents as u64, "texts"),
        args.count,
        match args.finished_only {
            true => "reached the length limit, and were left out",
            false => "reached the length limit",
        },
        share(report.exact_duplicates),
        share(report.near_duplicates),
    );
    Ok(())
}

/// 5 % validation, 5 % test, the rest train. The split of a text does not depend on the number of texts.
fn split(seed: u64, text: u64) -> &'static str {
    match CounterRng::new("logitcask corpus split", &[seed, text]).below(20) {
        0 => "validation",
        1 => "test",
        _ => "train",
    }
}
