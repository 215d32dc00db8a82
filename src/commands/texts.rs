//! Texts that a model writes, each with random numbers of its own.

use crate::args::GenerateArgs;
use crate::models;
use crate::output::counted;
use crate::progress::Progress;
use crate::stop;
use crate::tokenizers;
use anyhow::{Result, bail};
use logitcask_core::Fingerprint;
use logitcask_core::rng::CounterRng;
use logitcask_data::TextTokenizer;
use logitcask_model::{Device, Precision, PretrainedModel};
use logitcask_teach::generate::{Beginning, Continuation, Generator, Sampling};
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;

/// Number of texts that are generated at once, unless the command line says otherwise.
const BATCH: u64 = 128;
/// Version of the way in which texts follow from the rest of a record.
const VERSION: u32 = 1;

/// The texts that a command line asks for.
pub(super) struct Texts<'a> {
    args: &'a GenerateArgs,
    files: PretrainedModel,
    tokenizer: TextTokenizer,
    /// What every text begins with.
    prompt: Vec<u32>,
    ends: Vec<u32>,
    /// Largest number of tokens of a text.
    max_tokens: usize,
}

/// Everything that determines texts, up to the last bit of a logit, which may differ between devices.
#[derive(Serialize)]
pub(super) struct Record {
    version: u32,
    model: Fingerprint,
    prompt: Vec<u32>,
    temperature: f64,
    top_p: f64,
    seed: u64,
    count: u64,
    max_tokens: usize,
    end_tokens: Vec<u32>,
}

impl<'a> Texts<'a> {
    /// Opens the model without its weights.
    pub(super) fn of(args: &'a GenerateArgs) -> Result<Self> {
        let files = models::open(&args.model)?;
        let tokenizer = tokenizers::of_model(&files)?;
        let context = files.config().max_position_embeddings();
        let max_tokens = args.max_tokens.map_or(context, |most| most as usize);
        let prompt = prompt(args, &tokenizer, max_tokens, context)?;
        let ends = tokenizers::ends(&files, &tokenizer)?;
        Ok(Self { args, files: files.for_texts_of(max_tokens), tokenizer, prompt, ends, max_tokens })
    }

    /// What they are made from.
    pub(super) fn record(&self) -> Result<Record> {
        let args = self.args;
        Ok(Record {
            version: VERSION,
            model: self.files.fingerprint()?,
            prompt: self.prompt.clone(),
            temperature: args.temperature,
            top_p: args.top_p,
            seed: args.seed,
            count: args.count,
            max_tokens: self.max_tokens,
            end_tokens: self.ends.clone(),
        })
    }

    /// The model's name.
    pub(super) fn model(&self) -> String {
        self.files.name()
    }

    /// Number of texts that are generated at once.
    pub(super) fn batch_size(&self) -> u64 {
        self.args.batch.unwrap_or(BATCH)
    }

    /// Number of batches.
    pub(super) fn batches(&self) -> usize {
        self.args.count.div_ceil(self.batch_size()) as usize
    }

    /// The texts of a batch, by their numbers.
    pub(super) fn batch(&self, index: usize) -> Range<u64> {
        let (start, size) = (index as u64 * self.batch_size(), self.batch_size());
        start..(start + size).min(self.args.count)
    }

    /// The text of what was written after the prompt.
    pub(super) fn text(&self, tokens: &[u32]) -> Result<String> {
        Ok(self.tokenizer.decode(&[&self.prompt, tokens].concat())?.trim().to_owned())
    }

    /// Writes the texts of these batches, and hands each batch to `keep` with its index. Ctrl-C, which says
    /// `on_stop`, ends the work between two tokens, and texts are then as they are.
    pub(super) fn write<T: Send>(
        &self,
        device: &Device,
        batches: &[usize],
        on_stop: &'static str,
        keep: impl Fn(usize, Vec<Continuation>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let args = self.args;
        let model = self.files.load(device, Precision::F32)?;
        stop::flag(on_stop);
        let most = self.max_tokens - self.prompt.len();
        let count: u64 = batches.iter().map(|&index| self.batch(index).count() as u64).sum();
        let progress = Progress::new("writing", "tokens", count * most as u64);
        let sampling = Sampling { temperature: args.temperature, top_p: args.top_p };
        let classes = self.tokenizer.vocab_size() as usize;
        let generator = Generator { model: &model, sampling, ends: &self.ends, classes };
        let beginning = |text: u64| {
            let rng = CounterRng::new("logitcask generate", &[args.seed, text]);
            Beginning { tokens: &self.prompt, rng, most }
        };
        // Texts end before the largest length, and the tokens that they lack are none that remain to be written.
        let write_batch = |&index: &usize| {
            let texts: Vec<_> = self.batch(index).map(beginning).collect();
            let (mut before, mut done) = (texts.len(), 0);
            let written = generator.generate(&texts, &mut |going_on| {
                progress.less(((before - going_on) * (most - done)) as u64);
                (before, done) = (going_on, done + 1);
                progress.add(going_on as u64);
                !stop::was_asked()
            });
            progress.less((before * (most - done)) as u64);
            keep(index, written?)
        };
        // One batch per core: the matrix products of a single token are too small to be divided among cores.
        let kept = batches.par_iter().map(write_batch).collect();
        progress.finish();
        kept
    }
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
