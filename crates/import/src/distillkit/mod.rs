//! DistillKit's datasets of teacher outputs: a folder of Parquet files with one row per sequence, and a YAML of
//! settings.
//!
//! A sequence of L tokens has L - 1 positions. Each holds the k likeliest classes, in falling order when they were
//! written, and their log-probabilities, some of which only a fitted curve represents. Neither log_z nor the label's
//! own value is stored. DistillKit may have appended a padding token to a sequence to learn what follows its last
//! token.

mod bits;
mod columns;
mod decoder;
mod encoding;
mod export;
mod files;
mod legacy;
mod settings;

pub use export::export;
pub use legacy::LegacyValues;
pub use settings::{Compression, Function, LegacyCompression, NumberFormat, ResidualBin, Settings, Term};

use crate::error::{Error, Result};
use crate::fingerprint;
use crate::source::{ForeignPosition, ForeignSample, Place, Samples, Source, SourceInfo};
use arrow_array::RecordBatch;
use columns::Flat;
use decoder::Decoder;
use encoding::{EncodedPositions, Encoding};
use files::Part;
use legacy::LegacyDecoder;
use logitcask_core::{Fingerprint, GoldSource, PositionChoice, Positions, RowSource, Selection, TailSource};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// How DistillKit's files are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The settings that they were made with.
    pub settings: Settings,
    /// What the values of the older form are. Only that form leaves it open.
    pub legacy_values: Option<LegacyValues>,
    /// The token that was appended to sequences as padding: a sequence that ends with it is taken over without it.
    pub pad_token: Option<u64>,
}

/// The files of a folder.
pub struct DistillKit {
    parts: Vec<Part>,
    reading: Reading,
    encoding: Encoding,
    /// Tokens of each sample.
    lengths: Vec<u32>,
    /// Rows that are no samples, ascending, and the number of samples before each.
    left_out: Vec<u64>,
    samples_before: Vec<u64>,
    ends: Ends,
}

/// With which tokens sequences end.
#[derive(Default)]
struct Ends {
    /// Number of sequences by their last token.
    counts: HashMap<u64, u64>,
    /// Sequences that were shortened by a padding token.
    shortened: u64,
}

impl DistillKit {
    /// Opens the files at `source`, a folder or one Parquet file, and reads the tokens of every sequence.
    ///
    /// # Errors
    /// No such files, columns that do not belong to the settings, and an older form whose values nobody named.
    pub fn open(source: &Path, reading: Reading) -> Result<Self> {
        let encoding = match (&reading.settings, reading.legacy_values) {
            (Settings::Compressed(settings), None) => Encoding::Compressed(Decoder::new(settings)),
            (Settings::Compressed(_), Some(_)) => {
                return Err(Error::file(source, "its values are log-probabilities: leave out --values"));
            }
            (Settings::Legacy(settings), Some(values)) => Encoding::Legacy(LegacyDecoder::new(settings, values)),
            (Settings::Legacy(_), None) => {
                return Err(Error::file(
                    source,
                    "nothing in files of this older form says whether values are log-probabilities or logits less \
                     their mean: name it with --values log-probs or --values centred-logits",
                ));
            }
        };
        let parts = files::parts(source)?;
        let (lengths, left_out, samples_before, ends) = Default::default();
        let mut this = Self { parts, reading, encoding, lengths, left_out, samples_before, ends };
        this.read_tokens()?;
        match this.lengths.is_empty() {
            false => Ok(this),
            true => Err(Error::file(source, "it has no sequence with a position: there is nothing to import")),
        }
    }

    /// Reads the length of every sequence.
    fn read_tokens(&mut self) -> Result<()> {
        let mut row = 0;
        for part in &self.parts {
            let there = part.columns()?;
            if let Some(missing) =
                self.encoding.columns().iter().find(|name| !there.iter().any(|column| column == *name))
            {
                let there = there.join(", ");
                let problem = format!(
                    "there is no column `{missing}`, which the settings imply; the columns are {there}: name the \
                     settings that were beside these files with --settings"
                );
                return Err(Error::file(&part.path, problem));
            }
            for batch in part.read(&["input_ids"], 0..part.rows())? {
                let batch = batch.map_err(|error| Error::file(&part.path, error))?;
                let tokens =
                    Flat::<u64>::of(&batch, "input_ids").map_err(|problem| Error::file(&part.path, problem))?;
                for tokens in (0..batch.num_rows()).map(|row| tokens.row(row)) {
                    let length = self.ends.add(tokens, self.reading.pad_token);
                    match length {
                        2.. => self.lengths.push(length as u32),
                        _ => {
                            self.left_out.push(row);
                            self.samples_before.push(self.lengths.len() as u64);
                        }
                    }
                    row += 1;
                }
            }
        }
        Ok(())
    }

    /// The row of a sample, over all files.
    fn row_of(&self, sample: u64) -> u64 {
        sample + self.samples_before.partition_point(|&before| before <= sample) as u64
    }

    /// The samples in a batch that begins with the part's row `first`; `before` rows are in earlier parts.
    fn batch(&self, part: &Part, before: u64, first: u64, batch: &RecordBatch) -> Result<Vec<Result<ForeignSample>>> {
        let bad = |problem| Error::file(&part.path, problem);
        let tokens = Flat::<u64>::of(batch, "input_ids").map_err(bad)?;
        let positions = self.encoding.positions(batch).map_err(bad)?;
        let sample = |index: usize| {
            let number = first + index as u64;
            let place = Place { path: part.path.clone(), unit: "row", number };
            self.sample(place, before + number, tokens.row(index), index, &positions)
        };
        let is_sample = |index: &usize| self.left_out.binary_search(&(before + first + *index as u64)).is_err();
        Ok((0..batch.num_rows()).filter(is_sample).map(sample).collect())
    }

    fn sample(
        &self,
        place: Place,
        document: u64,
        tokens: &[u64],
        row: usize,
        positions: &EncodedPositions<'_>,
    ) -> Result<ForeignSample> {
        let stored = positions.count(row).map_err(|problem| Error::Sample { place: place.clone(), problem })?;
        if stored + 1 != tokens.len() {
            let problem = format!(
                "{} tokens have {} positions, but {stored} are stored: the files are damaged, or of another format",
                tokens.len(),
                tokens.len().saturating_sub(1)
            );
            return Err(Error::Sample { place, problem });
        }
        let length = without_padding(tokens, self.reading.pad_token);
        let position = |index: usize| {
            let entries = positions.decode(&self.encoding, row, index);
            let entries =
                entries.map_err(|problem| Error::Position { place: place.clone(), position: index, problem })?;
            Ok(ForeignPosition { entries, log_z: None })
        };
        let rows = (0..length - 1).map(position).collect::<Result<_>>()?;
        Ok(ForeignSample { place, document, input_ids: tokens[..length].to_vec(), positions: Positions::All, rows })
    }
}

/// Number of tokens without a padding token at the end.
fn without_padding(tokens: &[u64], pad_token: Option<u64>) -> usize {
    tokens.len() - usize::from(pad_token.is_some() && tokens.last().copied() == pad_token)
}

impl Ends {
    /// Counts a sequence; returns its length without padding.
    fn add(&mut self, tokens: &[u64], pad_token: Option<u64>) -> usize {
        let length = without_padding(tokens, pad_token);
        self.shortened += u64::from(length < tokens.len());
        if let Some(last) = tokens.last() {
            *self.counts.entry(*last).or_default() += 1;
        }
        length
    }

    /// The token with which most sequences end, if most end with the same one.
    fn common(&self) -> Option<(u64, u64)> {
        let all: u64 = self.counts.values().sum();
        self.counts.iter().map(|(token, count)| (*token, *count)).find(|(_, count)| 2 * count > all)
    }
}

impl Source for DistillKit {
    fn info(&self) -> SourceInfo {
        let tail = match self.reading.legacy_values {
            Some(LegacyValues::CentredLogits) => TailSource::None,
            Some(LegacyValues::LogProbs) | None => TailSource::Mass,
        };
        SourceInfo {
            selection: Selection::TopK { k: self.reading.settings.k() },
            positions: PositionChoice::All {},
            source: RowSource { log_z: false, gold: GoldSource::Kept, tail },
        }
    }

    fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        let Reading { settings, legacy_values, pad_token } = &self.reading;
        let files = self.parts.iter().map(|part| &*part.path);
        fingerprint::of_files("distillkit", &(settings, legacy_values, pad_token), files)
    }

    fn samples(&self, range: Range<u64>) -> Result<Samples<'_>> {
        let columns: Vec<&str> = ["input_ids"].iter().chain(self.encoding.columns()).copied().collect();
        let rows = match range.is_empty() {
            true => 0..0,
            false => self.row_of(range.start)..self.row_of(range.end - 1) + 1,
        };
        let mut batches = Vec::new();
        let mut before = 0;
        for part in &self.parts {
            let of_part = rows.start.max(before)..rows.end.min(before + part.rows());
            if !of_part.is_empty() {
                let first = of_part.start - before;
                batches.push((part, before, first, part.read(&columns, first..of_part.end - before)?));
            }
            before += part.rows();
        }
        let samples = batches.into_iter().flat_map(move |(part, before, mut first, reader)| {
            reader.flat_map(move |batch| {
                let batch = batch.map_err(|error| Error::file(&part.path, error));
                let samples = batch.and_then(|batch| {
                    let samples = self.batch(part, before, first, &batch)?;
                    first += batch.num_rows() as u64;
                    Ok(samples)
                });
                samples.unwrap_or_else(|error| vec![Err(error)])
            })
        });
        Ok(Box::new(samples))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.left_out.is_empty() {
            notes.push(format!("{} sequences have no position with a label and are left out", self.left_out.len()));
        }
        if self.ends.shortened > 0 {
            notes.push(format!("{} sequences are taken over without their padding token", self.ends.shortened));
        }
        if let (None, Some((token, count))) = (self.reading.pad_token, self.ends.common()) {
            notes.push(format!(
                "{count} sequences end with token {token}: if DistillKit appended it as padding, it is not what \
                 followed, and --pad-token {token} leaves it out"
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests;
