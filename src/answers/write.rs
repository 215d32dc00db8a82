//! Writes answers in batches, and puts them together.

use super::Answers;
use crate::output::{counted, note, say};
use crate::parts::{Parts, WrittenText};
use crate::progress::Progress;
use crate::stop;
use anyhow::{Error, Result, bail};
use logitcask_core::InputHash;
use logitcask_core::rng::CounterRng;
use logitcask_data::{AnsweredRow, Prompt, write_answers};
use logitcask_model::{Device, Model};
use logitcask_teach::generate::{Beginning, Continuation, Generator};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Writes the answers into `path`, batch by batch, and then all of them into one file.
pub(super) fn run(answers: &Answers<'_>, path: &Path, device: &Device, batch: usize) -> Result<()> {
    let prompts = &answers.prompts.rows;
    let fitting = fitting(answers)?;
    let batches: Vec<&[usize]> = fitting.chunks(batch.max(1)).collect();
    let parts = Parts::open(path, &answers.record, batch)?;
    // Another process may have finished them while this one came to it.
    if answers.are_in(path)? {
        return parts.remove();
    }
    let mut pending = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        if parts.read(index, batch.iter().copied())?.is_none() {
            pending.push(index);
        }
    }
    if pending.len() < batches.len() {
        note!("{} of {} batches are already answered", batches.len() - pending.len(), batches.len());
    }
    if !pending.is_empty() {
        let model = answers.files.load(device, answers.precision)?;
        let work = Work { answers, model: &model, parts: &parts, batches: &batches, streams: streams(answers) };
        work.run(&pending, device)?;
    }
    let mut all: Vec<Option<WrittenText>> = vec![None; prompts.len()];
    for (index, batch) in batches.iter().enumerate() {
        let Some(part) = parts.read(index, batch.iter().copied())? else {
            bail!("{}: a part is gone", parts.folder().display())
        };
        part.into_iter().for_each(|answer| {
            let prompt = answer.index;
            all[prompt] = Some(answer);
        });
    }
    if answers.record.is_finished_only() && !all.iter().flatten().any(|answer| answer.is_finished) {
        // They lead to no file, and other settings begin anew.
        parts.remove()?;
        bail!(
            "none of {} answers ends with an end token, so that nothing is written; allow more tokens",
            fitting.len()
        );
    }
    join(answers, path, all)?;
    parts.remove()
}

/// The prompts that leave room for an answer, longest first: what needs most memory is met at once, and a batch has
/// little padding.
fn fitting(answers: &Answers<'_>) -> Result<Vec<usize>> {
    let (prompts, most) = (&answers.prompts.rows, answers.record.max_length());
    let mut fitting: Vec<usize> = (0..prompts.len()).filter(|&index| prompts[index].tokens.len() < most).collect();
    fitting.sort_by_key(|&index| (std::cmp::Reverse(prompts[index].tokens.len()), index));
    if let Some(first) = prompts.iter().find(|prompt| prompt.tokens.len() >= most) {
        let left = format!(
            "{} of {} prompts have {most} tokens or more and leave no room for an answer, the first of them row {} \
             (counted from 0) of {} ({} tokens)",
            prompts.len() - fitting.len(),
            prompts.len(),
            first.row,
            first.path.display(),
            first.tokens.len()
        );
        match fitting.is_empty() {
            true => bail!("{left}; raise the maximum length, if the model's context is longer"),
            false => note!("{left}; they are left out"),
        }
    }
    Ok(fitting)
}

/// The random numbers of each answer. They depend on the seed, the prompt, and how often the same prompt came before,
/// so that an answer does not change when other prompts come or go, and a prompt that is repeated is answered anew.
fn streams(answers: &Answers<'_>) -> Vec<CounterRng> {
    let mut before: HashMap<[u8; 16], u64> = HashMap::new();
    let mut stream = |prompt: &Prompt| {
        let InputHash(hash) = InputHash::of(&prompt.tokens);
        let earlier = before.entry(hash).or_default();
        let number = u128::from_le_bytes(hash);
        let keys = [answers.record.seed(), number as u64, (number >> 64) as u64, *earlier];
        *earlier += 1;
        CounterRng::new("logitcask answer", &keys)
    };
    answers.prompts.rows.iter().map(&mut stream).collect()
}

/// The batches to write.
struct Work<'a> {
    answers: &'a Answers<'a>,
    model: &'a Model,
    parts: &'a Parts,
    /// Indices of the prompts of each batch.
    batches: &'a [&'a [usize]],
    streams: Vec<CounterRng>,
}

impl Work<'_> {
    /// Writes these batches: one on each core of a CPU, because the matrix products of a few tokens are too small to be
    /// divided among cores, and one at a time on a GPU.
    fn run(&self, pending: &[usize], device: &Device) -> Result<()> {
        // From here on, Ctrl-C stops the work between two tokens.
        stop::flag("stopping; batches that are not finished are dropped");
        let workers = match *device == Device::flex() {
            true => thread::available_parallelism().map_or(1, std::num::NonZero::get),
            false => 1,
        };
        let count: usize = pending.iter().map(|&index| self.batches[index].len()).sum();
        let progress = Progress::new("answering", "answers", count as u64);
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (failure, pace) = (Mutex::new(None), Pace { start: Instant::now(), tokens: AtomicU64::new(0) });
        thread::scope(|scope| {
            for _ in 0..workers.min(pending.len()) {
                scope.spawn(|| {
                    while let Some(&index) = pending.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if has_failed.load(Ordering::Relaxed) || stop::was_asked() {
                            return;
                        }
                        if let Err(error) = self.batch(index, &progress, &pace, &has_failed) {
                            has_failed.store(true, Ordering::Relaxed);
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                });
            }
        });
        progress.finish();
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        if stop::was_asked() {
            return Err(self.parts.stopped());
        }
        Ok(())
    }

    /// Writes one batch. If the work is to stop, nothing of it is kept.
    fn batch(&self, index: usize, progress: &Progress, pace: &Pace, has_failed: &AtomicBool) -> Result<()> {
        let Answers { record, tokenizer, ends, prompts, .. } = self.answers;
        let beginning = |&index: &usize| {
            let tokens = &prompts.rows[index].tokens;
            let most = record.most_after(tokens.len());
            Beginning { tokens, rng: self.streams[index].clone(), most }
        };
        let beginnings: Vec<Beginning<'_>> = self.batches[index].iter().map(beginning).collect();
        let generator = Generator {
            model: self.model,
            sampling: record.sampling(),
            ends,
            classes: tokenizer.vocab_size() as usize,
        };
        let mut going_on = beginnings.len();
        let is_over = || stop::was_asked() || has_failed.load(Ordering::Relaxed);
        let written = generator.generate(&beginnings, &mut |count| {
            progress.note(pace.after(count as u64));
            progress.add((going_on - count) as u64);
            going_on = count;
            !is_over()
        })?;
        if is_over() {
            return Ok(());
        }
        let answer = |(&index, written): (&usize, Continuation)| WrittenText {
            index,
            tokens: written.tokens,
            is_finished: written.is_finished,
        };
        let answers: Vec<WrittenText> = self.batches[index].iter().zip(written).map(answer).collect();
        self.parts.write(index, &answers)?;
        progress.add(going_on as u64);
        Ok(())
    }
}

/// How many tokens were written since a time.
struct Pace {
    start: Instant,
    tokens: AtomicU64,
}

impl Pace {
    /// Tokens per second after some more, in words.
    fn after(&self, more: u64) -> String {
        let tokens = self.tokens.fetch_add(more, Ordering::Relaxed) + more;
        format!("{:.0} tokens/s", tokens as f64 / self.start.elapsed().as_secs_f64().max(1e-9))
    }
}

/// Writes all answers into one file, in the order of their prompts.
fn join(answers: &Answers<'_>, path: &Path, written: Vec<Option<WrittenText>>) -> Result<()> {
    let (prompts, record) = (&answers.prompts, &answers.record);
    let (mut finished, mut all, mut tokens) = (0, 0, 0);
    for answer in written.iter().flatten() {
        all += 1;
        finished += usize::from(answer.is_finished);
        tokens += answer.tokens.len();
    }
    let kept = prompts.rows.iter().zip(written).filter_map(|(prompt, answer)| {
        let answer = answer.filter(|answer| answer.is_finished || !record.is_finished_only())?;
        let text = &answer.tokens[..answer.tokens.len() - usize::from(answer.is_finished)];
        // For people. What is learned are the tokens, which may include one without a text.
        let text = answers.tokenizer.decode_verbatim(text).unwrap_or_default();
        let mut messages = prompt.messages.clone();
        messages.push(("assistant".to_owned(), text));
        Some(Ok::<_, Error>(AnsweredRow {
            tokens: [&prompt.tokens[..], &answer.tokens].concat(),
            prompt: prompt.tokens.len(),
            messages,
            is_finished: answer.is_finished,
            split: prompt.split.clone(),
        }))
    });
    write_answers(path, &record.to_json()?, prompts.has_splits, kept)?;
    let cut = match record.is_finished_only() {
        true => "reached the maximum length and were left out",
        false => "reached the maximum length",
    };
    say!(
        "{}: {} of {:.0} tokens on average; {} of {all} {cut}",
        path.display(),
        counted(if record.is_finished_only() { finished } else { all } as u64, "answers"),
        tokens as f64 / f64::from(all.max(1) as u32),
        all - finished
    );
    Ok(())
}
