//! `logitcask generate`.

use super::answer;
use crate::args::GenerateArgs;
use crate::devices;
use crate::models;
use crate::output::{counted, note, say};
use crate::paths::{refuse_existing, refuse_unwritable};
use crate::progress::Progress;
use crate::stop;
use crate::tokenizers;
use anyhow::{Result, bail};
use logitcask_core::rng::CounterRng;
use logitcask_data::{TextTokenizer, diversity, write_corpus};
use logitcask_model::Precision;
use logitcask_teach::generate::{Beginning, Continuation, Generator, Sampling};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Number of texts that are generated at once.
const BATCH: u64 = 128;

/// Generates texts, or answers prompts.
pub fn run(args: &GenerateArgs) -> Result<()> {
    match (&args.prompts, &args.out) {
        (Some(prompts), Some(out)) => {
            check_name(out)?;
            answer::run(args, prompts, out)
        }
        _ => texts(args),
    }
}

/// Generates texts, to the screen or into a corpus.
fn texts(args: &GenerateArgs) -> Result<()> {
    args.out.as_deref().map_or(Ok(()), check_out)?;
    let files = models::open(&args.model)?;
    let tokenizer = tokenizers::of_model(&files)?;
    let context = files.config().max_position_embeddings();
    let max_tokens = args.max_tokens.map_or(context, |most| most as usize);
    let prompt = prompt(args, &tokenizer, max_tokens, context)?;
    let ends = tokenizers::ends(&files, &tokenizer)?;
    let (device, device_name) = devices::open(args.device)?;
    let files = files.for_texts_of(max_tokens);
    let model = files.load(&device, Precision::F32)?;

    if args.out.is_some() {
        note!("{} writes {} on {device_name}", files.name(), counted(args.count, "texts"));
    }
    let stop = stop::flag();
    let most = max_tokens - prompt.len();
    let progress = Progress::new("writing", "tokens", args.count * most as u64);
    let step = args.batch.unwrap_or(BATCH);
    let sampling = Sampling { temperature: args.temperature, top_p: args.top_p };
    let generator = Generator { model: &model, sampling, ends: &ends, classes: tokenizer.vocab_size() as usize };
    let beginning = |text: u64| {
        let rng = CounterRng::new("logitcask generate", &[args.seed, text]);
        Beginning { tokens: &prompt, rng, most }
    };
    // Texts end before the largest length, and the tokens that they lack are none that remain to be written.
    let write_batch = |texts: Range<u64>| {
        let (mut before, mut done) = ((texts.end - texts.start) as usize, 0);
        let written = generator.generate(&texts.map(beginning).collect::<Vec<_>>(), &mut |going_on| {
            progress.less(((before - going_on) * (most - done)) as u64);
            (before, done) = (going_on, done + 1);
            progress.add(going_on as u64);
            !stop.load(Ordering::Relaxed)
        });
        progress.less((before * (most - done)) as u64);
        written
    };
    let batches: Vec<_> = (0..args.count.div_ceil(step)).map(|i| i * step..((i + 1) * step).min(args.count)).collect();
    // One batch per core: the matrix products of a single token are too small to be divided among cores.
    let written: Vec<Vec<Continuation>> = batches.into_par_iter().map(write_batch).collect::<Result<_, _>>()?;
    // After a stop, only texts that ended with an end token are complete.
    let is_stopped = stop.load(Ordering::Relaxed);
    let all = || written.iter().flatten();
    let unfinished = all().filter(|text| !text.is_finished).count();
    let texts: Vec<String> = all()
        .filter(|text| text.is_finished || !(args.finished_only || is_stopped))
        .map(|text| Ok(tokenizer.decode(&[&prompt, text.text()].concat())?.trim().to_owned()))
        .collect::<Result<_>>()?;
    if args.out.is_some() {
        progress.finish();
    }
    let count = texts.len();
    match &args.out {
        _ if count == 0 => note!("no text was finished, so nothing is written"),
        None => texts.iter().for_each(|text| say!("{text}\n")),
        Some(path) => write(path, args, texts, (unfinished, is_stopped))?,
    }
    if is_stopped {
        bail!("stopped: {count} of {} were finished and kept, the others were dropped", counted(args.count, "texts"));
    }
    Ok(())
}

/// The tokens that every text begins with: fewer than it may have in all.
fn prompt(args: &GenerateArgs, tokenizer: &TextTokenizer, max_tokens: usize, context: usize) -> Result<Vec<u32>> {
    let mut prompt: Vec<u32> = tokenizer.bos().into_iter().collect();
    prompt.extend(tokenizer.encode(&args.prompt)?);
    if prompt.is_empty() {
        bail!("this model has no start token; give a --prompt");
    }
    if max_tokens > context || prompt.len() >= max_tokens {
        bail!(
            "the prompt has {} and --max-tokens is {max_tokens}; the model's context is {context}",
            counted(prompt.len() as u64, "tokens")
        );
    }
    Ok(prompt)
}

/// Refuses an unusable output path before texts are generated.
fn check_out(path: &Path) -> Result<()> {
    refuse_existing(path)?;
    check_name(path)
}

/// Refuses a path that cannot become a Parquet file.
fn check_name(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "parquet") {
        bail!("{}: a dataset is written as a Parquet file; its name must end in .parquet", path.display());
    }
    refuse_unwritable(path)
}

/// Writes the corpus; `unfinished` texts did not end with an end token.
fn write(path: &Path, args: &GenerateArgs, texts: Vec<String>, (unfinished, is_stopped): (usize, bool)) -> Result<()> {
    let report = diversity(&texts);
    let corpus: Vec<(String, &str)> =
        texts.into_iter().enumerate().map(|(i, text)| (text, split(args.seed, i as u64))).collect();
    write_corpus(path, &corpus)?;
    let share = |count: usize| 100.0 * count as f64 / report.documents.max(1) as f64;
    say!(
        "{}: {} ({unfinished} of {} {}), {:.2} % exact duplicates, {:.2} % near-duplicates",
        path.display(),
        counted(report.documents as u64, "texts"),
        args.count,
        match (is_stopped, args.finished_only) {
            (true, _) => "were stopped, and were left out",
            (false, true) => "reached the length limit, and were left out",
            (false, false) => "reached the length limit",
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
