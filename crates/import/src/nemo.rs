//! NeMo-Aligner's files of teacher logits: JSON lines, one object for each sequence.
//!
//! `tokens` and `labels` have S items, and `labels[i]` is what follows `tokens[i]`. `topk_logits` and `topk_token_ids`
//! have S lists of K raw logits and ids, `log_sum_exp_logits` the S log-partitions over the whole vocabulary, and
//! `loss_mask` is not 0 at the positions that are learned, which alone are taken over.

use crate::error::{Error, Result};
use crate::fingerprint;
use crate::lines::{next_line, parse};
use crate::source::{Entry, ForeignPosition, ForeignSample, Place, Samples, Source, SourceInfo};
use logitcask_core::{Fingerprint, GoldSource, PositionChoice, Positions, RowSource, Selection, TailSource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a line is, for messages.
const LINE: &str = "an object as NeMo-Aligner writes it";

/// A file of sequences.
pub struct Nemo {
    path: Arc<Path>,
    k: u32,
    /// Tokens of each sample.
    lengths: Vec<u32>,
    /// First byte and number of each sample's line.
    lines: Vec<(u64, u64)>,
    /// Lines that are no samples.
    left_out: u64,
}

/// What decides how long a sample is.
#[derive(Deserialize)]
struct Outline {
    tokens: Vec<IgnoredAny>,
    loss_mask: Vec<f64>,
    topk_token_ids: Vec<Vec<IgnoredAny>>,
}

/// A sequence.
#[derive(Deserialize)]
struct Line {
    tokens: Vec<u64>,
    labels: Vec<i64>,
    loss_mask: Vec<f64>,
    topk_logits: Vec<Vec<f64>>,
    topk_token_ids: Vec<Vec<u64>>,
    log_sum_exp_logits: Vec<f64>,
}

impl Nemo {
    /// Opens the file and reads the length of every sequence.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is no such object, and a file without a position that is learned.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "read it"))?;
        let mut this = Self { path: path.into(), k: 0, lengths: vec![], lines: vec![], left_out: 0 };
        let (mut reader, mut start, mut number) = (BufReader::new(file), 0, 0);
        while let Some(line) = next_line(&mut reader, path)? {
            number += 1;
            if !line.trim_ascii().is_empty() {
                let Outline { tokens, loss_mask, topk_token_ids } = parse(&line, &this.place(number), LINE)?;
                let last = loss_mask.iter().take(tokens.len()).rposition(|learned| *learned != 0.0);
                match last {
                    None => this.left_out += 1,
                    Some(last) => {
                        this.lengths.push(last as u32 + 2);
                        this.lines.push((start, number));
                        let k = topk_token_ids.get(last).map_or(0, Vec::len);
                        this.k = this.k.max(u32::try_from(k).unwrap_or(u32::MAX));
                    }
                }
            }
            start += line.len() as u64;
        }
        match this.lengths.is_empty() {
            false => Ok(this),
            true => {
                Err(Error::file(path, "no line has a position whose loss_mask is not 0: there is nothing to import"))
            }
        }
    }

    fn place(&self, number: u64) -> Place {
        Place { path: self.path.clone(), unit: "line", number }
    }

    fn sample(&self, reader: &mut BufReader<File>, index: usize) -> Result<ForeignSample> {
        let (start, number) = self.lines[index];
        reader.seek(SeekFrom::Start(start)).map_err(Error::io(&self.path, "read it"))?;
        let place = self.place(number);
        let line: Line = parse(&next_line(reader, &self.path)?.unwrap_or_default(), &place, LINE)?;
        let bad = |problem| Error::Sample { place: place.clone(), problem };
        line.check().map_err(bad)?;
        let learned: Vec<usize> = (0..line.tokens.len()).filter(|&position| line.loss_mask[position] != 0.0).collect();
        let last = learned.last().copied().unwrap_or_default();
        let mut input_ids = line.tokens[..=last].to_vec();
        input_ids.push(u64::try_from(line.labels[last]).unwrap_or(u64::MAX));
        let mut rows = Vec::with_capacity(learned.len());
        for &position in &learned {
            let row = line.position(position, &input_ids, self.k);
            rows.push(row.map_err(|problem| Error::Position { place: place.clone(), position, problem })?);
        }
        let positions = Positions::Chosen(learned.into_iter().map(|position| position as u32).collect());
        Ok(ForeignSample { place, document: number - 1, input_ids, positions, rows })
    }
}

impl Line {
    /// Rejects lists of other lengths than the tokens.
    fn check(&self) -> Result<(), String> {
        let lists = [
            ("labels", self.labels.len()),
            ("loss_mask", self.loss_mask.len()),
            ("topk_logits", self.topk_logits.len()),
            ("topk_token_ids", self.topk_token_ids.len()),
            ("log_sum_exp_logits", self.log_sum_exp_logits.len()),
        ];
        match lists.into_iter().find(|(_, length)| *length != self.tokens.len()) {
            None => Ok(()),
            Some((name, length)) => Err(format!(
                "`{name}` has {length} items, but `tokens` has {}: one for each token belongs there",
                self.tokens.len()
            )),
        }
    }

    /// What was stored of a position, whose label must be the next of the sample's tokens.
    fn position(&self, position: usize, input_ids: &[u64], k: u32) -> Result<ForeignPosition, String> {
        let (label, next) = (self.labels[position], input_ids[position + 1]);
        if u64::try_from(label) != Ok(next) {
            return Err(format!(
                "its label is {label}, but the next token is {next}: a label that does not follow cannot be taken over"
            ));
        }
        let (ids, logits) = (&self.topk_token_ids[position], &self.topk_logits[position]);
        if ids.len() != k as usize || logits.len() != k as usize {
            return Err(format!(
                "{} ids and {} logits are stored, {k} of each belong there as at other positions",
                ids.len(),
                logits.len()
            ));
        }
        let log_z = self.log_sum_exp_logits[position];
        if !log_z.is_finite() {
            return Err(format!("log_sum_exp_logits is {log_z}, a finite number belongs there"));
        }
        let entry = |(&id, &logit): (&u64, &f64)| Entry { id, log_prob: logit - log_z };
        Ok(ForeignPosition { entries: ids.iter().zip(logits).map(entry).collect(), log_z: Some(log_z) })
    }
}

impl Source for Nemo {
    fn info(&self) -> SourceInfo {
        SourceInfo {
            selection: Selection::TopK { k: self.k },
            positions: PositionChoice::Marked {},
            source: RowSource { log_z: true, gold: GoldSource::Kept, tail: TailSource::Mass },
        }
    }

    fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        fingerprint::of_files("nemo", &(), [&*self.path])
    }

    fn samples(&self, range: Range<u64>) -> Result<Samples<'_>> {
        let file = File::open(&self.path).map_err(Error::io(&self.path, "read it"))?;
        let mut reader = BufReader::new(file);
        Ok(Box::new((range.start as usize..range.end as usize).map(move |index| self.sample(&mut reader, index))))
    }

    fn notes(&self) -> Vec<String> {
        let note = format!("{} lines have no position whose loss_mask is not 0 and are left out", self.left_out);
        if self.left_out > 0 { vec![note] } else { vec![] }
    }
}

#[cfg(test)]
mod tests;
