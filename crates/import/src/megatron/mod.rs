//! Megatron-LM's offline log-probabilities, a folder of `--logits-save-dir`.
//!
//! Each data-parallel rank writes tar files. The first member is `_meta.json`, and every other one is what the rank saved
//! of an iteration: zstd around `torch.save` of `values` (log-probabilities at T = 1 in f16, bf16 or f32), `indices_low`
//! (the low 16 bits of the classes) and `bit_17`, which have the shape [positions, samples, places]. With top-p, places
//! that a position does not use hold the class -1 (131071 in 17 bits) and a value of -1000 or less.
//!
//! | version | files | members | tensors |
//! |---|---|---|---|
//! | 1 | `cp0_dpR__LAST.tar` | `ITERATION.pt.zst` | lists with a tensor for each microbatch; `bit_17` is bool |
//! | 2 | `dpR__LAST.tar` | `ITERATION.pt.zst` | one, and `format_version` 2; `bit_17` is bool |
//! | 2 | `dpR__FIRST-END.tar` | `FIRST-END.pt.zst`, of samples | the same; `bit_17` is packed, eight in a byte |
//!
//! Later versions, files of one part of each sequence (context parallelism above 1 in version 1) and sequences that were
//! packed from documents are refused. The pickle in a payload is read by a reader of our own that executes nothing.
//!
//! No file holds the tokens. They are given in the order of training, whose sample x of an iteration is in microbatch
//! x / (R M) of rank x / M mod R, for R ranks and microbatches of M samples. It is assumed that the logits of a sequence
//! stand in its order, and that the teacher saw all tokens before a position. The samples of a source stand in the order of
//! the files, so that each payload is read once; a sample's `document` is its place in the order of training.

mod payload;
mod pickle;
mod shards;
mod tensor;
mod tokens;
mod torch_file;
mod zip;

use crate::error::{Error, Result};
use crate::fingerprint;
use crate::source::{ForeignPosition, ForeignSample, Place, Samples, Source, SourceInfo};
use logitcask_core::{Fingerprint, GoldSource, PositionChoice, Positions, RowSource, Selection, TailSource};
use payload::Payload;
use shards::{Saver, Shards, Unit};
use std::ops::Range;
use std::path::Path;
use tokens::Tokens;

/// The iterations of a folder, and their tokens.
pub struct Megatron {
    shards: Shards,
    tokens: Tokens,
    shape: Shape,
    selection: Selection,
    /// Tokens of each sample, in the order of the files.
    lengths: Vec<u32>,
}

/// How samples are arranged in payloads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    ranks: u64,
    /// Samples of a microbatch.
    microbatch: u64,
    /// Samples of a payload.
    samples: u64,
    /// Positions of each sample.
    positions: u64,
}

/// Where a sample is.
struct Location {
    step: u64,
    rank: u64,
    /// Its number in the payload.
    row: u64,
    /// Its number in the order of training.
    number: u64,
}

impl Shape {
    /// Reads it from the first payload, of whose version `saver` must say the same.
    fn of(payload: &Payload, saver: &Saver, ranks: u64) -> Result<Self, String> {
        if saver.format_version != payload.version {
            return Err(format!(
                "`_meta.json` is of `format_version` {}, but what was saved is of {}; copy the files of one run",
                saver.format_version, payload.version
            ));
        }
        let microbatch = match saver.format_version {
            1 => payload.part_samples(),
            2 => saver.mbs_save.filter(|size| *size > 0).ok_or("`_meta.json` does not say `mbs_save`")?,
            other => return Err(format!("its `format_version` is {other}; 1 and 2 are read")),
        };
        let (samples, positions) = (payload.samples(), payload.positions());
        let this = Self { ranks, microbatch, samples, positions };
        if samples % microbatch != 0 {
            return Err(format!("{samples} samples are no whole number of microbatches of {microbatch} (`mbs_save`)"));
        }
        let said = [("dp_size_save", saver.dp_size_save, ranks), ("gbs_save", saver.gbs_save, this.batch())];
        match said.into_iter().find(|(_, said, found)| said.is_some_and(|said| said != *found)) {
            Some((name, said, found)) => Err(format!(
                "`_meta.json` says {name} = {}, but the files have {found}; copy all files of all ranks",
                said.unwrap_or_default()
            )),
            None => Ok(this),
        }
    }

    /// Samples of an iteration.
    fn batch(&self) -> u64 {
        self.samples * self.ranks
    }

    /// Where the sample with this index in the order of the files is.
    fn locate(&self, index: u64) -> Location {
        let (payload, row) = (index / self.samples, index % self.samples);
        let (step, rank) = (payload / self.ranks, payload % self.ranks);
        let within = (row / self.microbatch * self.ranks + rank) * self.microbatch + row % self.microbatch;
        Location { step, rank, row, number: step * self.batch() + within }
    }
}

impl Megatron {
    /// Opens the files in `folder`, and `tokens`: JSON lines with `input_ids`, one line for each sample in the order of
    /// training. A sequence has as many tokens as positions were saved, whose last one is then left out because its label
    /// is not known, or one more.
    ///
    /// # Errors
    /// Files of another form or version, iterations that are missing, and tokens that cannot be theirs.
    pub fn open(folder: &Path, tokens: &Path) -> Result<Self> {
        let shards = Shards::open(folder)?;
        let first = shards.member(0, 0);
        let bad = |problem| Error::file(&first.file, problem);
        let payload = Payload::read(first)?;
        let shape = Shape::of(&payload, &shards.meta.saver, shards.ranks).map_err(bad)?;
        if let Some(step) = shards.steps.iter().find(|step| step.end - step.start != shape.batch())
            && shards.unit == Unit::Samples
        {
            let problem = format!("samples {step:?} are not the {} of an iteration", shape.batch());
            return Err(Error::file(folder, problem));
        }
        let k = match shards.meta.saver.p {
            Some(_) => Some(shards.meta.saver.k),
            None => u32::try_from(payload.places()).ok(),
        };
        let k =
            k.filter(|k| (1..=65_535).contains(k)).ok_or_else(|| bad("it keeps more than 65535 classes".to_owned()))?;
        let selection = shards.meta.saver.p.map_or(Selection::TopK { k }, |p| Selection::TopP { p, k });
        let tokens = Tokens::open(tokens)?;
        let mut this = Self { shards, tokens, shape, selection, lengths: Vec::new() };
        this.check_tokens()?;
        let length = |index| this.tokens.length(this.shape.locate(index).number);
        this.lengths = (0..this.tokens.len()).map(length).collect();
        Ok(this)
    }

    /// Refuses sequences that cannot be the ones that the teacher saw.
    fn check_tokens(&self) -> Result<()> {
        let (there, expected) = (self.tokens.len(), self.shards.steps.len() as u64 * self.shape.batch());
        if there != expected {
            let problem = format!(
                "{there} sequences, but the files have {expected} samples ({} iterations of {}): give the sequences of \
                 these iterations in the order of training",
                self.shards.steps.len(),
                self.shape.batch()
            );
            return Err(Error::file(&self.tokens.path, problem));
        }
        let positions = self.shape.positions;
        let fits = |index: &u64| (positions..=positions + 1).contains(&self.tokens.length(*index).into());
        match (0..there).find(|index| !fits(index) || self.tokens.length(*index) < 2) {
            None => Ok(()),
            Some(index) => Err(Error::Sample {
                place: self.tokens.place_of(index),
                problem: format!(
                    "{} tokens, but {positions} positions were saved of each sequence: {positions} tokens belong there, or \
                     {} with the label of the last position",
                    self.tokens.length(index),
                    positions + 1
                ),
            }),
        }
    }

    /// The payload with a sample.
    fn payload(&self, at: &Location) -> Result<Payload> {
        let member = self.shards.member(at.step, at.rank);
        let payload = Payload::read(member)?;
        match Shape::of(&payload, &self.shards.meta.saver, self.shards.ranks) {
            Ok(shape) if shape == self.shape => Ok(payload),
            Ok(shape) => {
                let problem = format!("{}: {shape:?}, but the first payload has {:?}", member.name, self.shape);
                Err(Error::file(&member.file, problem))
            }
            Err(problem) => Err(Error::file(&member.file, format!("{}: {problem}", member.name))),
        }
    }
}

impl Source for Megatron {
    fn info(&self) -> SourceInfo {
        SourceInfo {
            selection: self.selection,
            positions: PositionChoice::All {},
            source: RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass },
        }
    }

    fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        let files = self.shards.files.iter().chain([&self.tokens.path]).map(|path| &**path);
        fingerprint::of_files("megatron", &(), files)
    }

    fn samples(&self, range: Range<u64>) -> Result<Samples<'_>> {
        let mut reader = self.tokens.reader()?;
        let mut opened: Option<((u64, u64), Payload)> = None;
        let sample = move |index| {
            let at = self.shape.locate(index);
            let payload = match opened.take() {
                Some((place, payload)) if place == (at.step, at.rank) => payload,
                _ => self.payload(&at)?,
            };
            let input_ids = self.tokens.get(&mut reader, at.number)?;
            let row = |position| ForeignPosition { entries: payload.entries(at.row, position), log_z: None };
            let rows = (0..input_ids.len() as u64 - 1).map(row).collect();
            opened = Some(((at.step, at.rank), payload));
            let file = self.shards.member(at.step, at.rank).file.clone();
            let place = Place { path: file, unit: "sample", number: at.number };
            Ok(ForeignSample { place, document: at.number, input_ids, positions: Positions::All, rows })
        };
        Ok(Box::new(range.map(sample)))
    }

    fn notes(&self) -> Vec<String> {
        let short = self.lengths.iter().filter(|length| u64::from(**length) == self.shape.positions).count();
        let note = || {
            format!(
                "the last position of {short} sequences is left out, because {} does not have the token after it",
                self.tokens.path.display()
            )
        };
        if short > 0 { vec![note()] } else { vec![] }
    }
}

#[cfg(test)]
mod tests;
