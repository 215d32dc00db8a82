//! llama.cpp's base logits, which its perplexity tool writes with `--kl-divergence-base`.
//!
//! `_logits_`, then n_ctx, n_vocab and n_chunk (i32), the tokens of all windows (i32), and for each position of a
//! window from n_ctx / 2 to n_ctx - 2 a scale and a minimum (f32) and n_vocab codes (u16, with one more to an even
//! number): a log-probability over all classes is minimum + scale code. What lies 16 nats or more below the largest has
//! the code 0, and nothing more is known of it. The tool evaluated every window with the start token in place of its
//! first token, if the model has one, and stored the token of the text.

use crate::error::{Error, Result};
use crate::fingerprint;
use crate::source::{Entry, ForeignPosition, ForeignSample, Place, Samples, Source, SourceInfo};
use logitcask_core::{Fingerprint, GoldSource, PositionChoice, Positions, RowSource, Selection, TailSource};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"_logits_";
const HEADER: u64 = 20;
/// Nats below the largest log-probability from which on codes are 0, less what rounding may take from them.
const CLIP: f64 = 16.0 - 1e-3;

/// A file of base logits.
pub struct LlamaCpp {
    path: Arc<Path>,
    window: u64,
    classes: u64,
    k: u32,
    start_token: Option<u32>,
    lengths: Vec<u32>,
}

impl LlamaCpp {
    /// Opens the file, of whose positions at most `k` classes are taken over. `start_token` is the token that the model
    /// saw in place of each window's first one.
    ///
    /// # Errors
    /// A file that is not such a file, or has another length than its header says.
    pub fn open(path: &Path, k: u32, start_token: Option<u32>) -> Result<Self> {
        let io = || Error::io(path, "read it");
        let mut file = File::open(path).map_err(io())?;
        let length = file.metadata().map_err(io())?.len();
        let mut header = Vec::new();
        file.by_ref().take(HEADER).read_to_end(&mut header).map_err(io())?;
        let Some(numbers) = header.strip_prefix(MAGIC).filter(|numbers| numbers.len() == 12) else {
            let problem = "it does not begin with `_logits_` and three numbers: it is no file of --kl-divergence-base";
            return Err(Error::file(path, problem));
        };
        let numbers: Vec<u64> = integers(numbers).collect();
        let &[window, classes, windows] = numbers.as_slice() else { return Err(Error::file(path, "no header")) };
        let fits = (4..1 << 24).contains(&window) && (2..1 << 24).contains(&classes) && (1..1 << 31).contains(&windows);
        if !fits {
            let problem = format!("its header says {windows} windows of {window} tokens and {classes} classes");
            return Err(Error::file(path, problem));
        }
        let this =
            Self { path: path.into(), window, classes, k, start_token, lengths: vec![window as u32; windows as usize] };
        let expected = u128::from(HEADER)
            + u128::from(windows) * (u128::from(4 * window) + u128::from(this.positions() * this.position_bytes()));
        if u128::from(length) != expected {
            let problem = format!(
                "{length} bytes, but its header says {expected} ({windows} windows of {window} tokens, {classes} \
                 classes): it is cut off, which llama.cpp does not report when a disk is full; write it again"
            );
            return Err(Error::file(path, problem));
        }
        if !(1..=65_535).contains(&k) || u64::from(k) > classes {
            return Err(Error::file(path, format!("{k} classes, but 1 to {} can be kept", classes.min(65_535))));
        }
        Ok(this)
    }

    /// The first position of a window that has a row.
    fn first(&self) -> u64 {
        self.window / 2
    }

    /// Number of positions of a window that have rows.
    fn positions(&self) -> u64 {
        self.window - 1 - self.first()
    }

    fn position_bytes(&self) -> u64 {
        8 + 4 * self.classes.div_ceil(2)
    }

    fn sample(&self, reader: &mut BufReader<File>, index: u64) -> Result<ForeignSample> {
        let windows = self.lengths.len() as u64;
        let mut input_ids: Vec<u64> =
            integers(&self.bytes(reader, HEADER + index * 4 * self.window, 4 * self.window)?).collect();
        if let (Some(start), Some(first)) = (self.start_token, input_ids.first_mut()) {
            *first = start.into();
        }
        let rows = HEADER + windows * 4 * self.window + index * self.positions() * self.position_bytes();
        let row = |place: u64| {
            let bytes = self.bytes(reader, rows + place * self.position_bytes(), self.position_bytes())?;
            Ok(ForeignPosition { entries: self.entries(&bytes), log_z: None })
        };
        let rows = (0..self.positions()).map(row).collect::<Result<_>>()?;
        let chosen = (self.first()..self.window - 1).map(|position| position as u32);
        let place = Place { path: self.path.clone(), unit: "window", number: index };
        Ok(ForeignSample { place, document: index, input_ids, positions: Positions::Chosen(chosen.collect()), rows })
    }

    fn bytes(&self, reader: &mut BufReader<File>, start: u64, count: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count as usize];
        let read = reader.seek(SeekFrom::Start(start)).and_then(|_| reader.read_exact(&mut bytes));
        read.map(|()| bytes).map_err(Error::io(&self.path, "read it"))
    }

    /// The `k` likeliest classes of a position, without those of which only an upper bound is known.
    fn entries(&self, bytes: &[u8]) -> Vec<Entry> {
        let (numbers, codes) = bytes.split_at(8);
        let mut floats = numbers.chunks_exact(4).map(|bytes| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes));
        let [scale, minimum] = [(); 2].map(|()| f64::from(floats.next().unwrap_or(f32::NAN)));
        let is_clipped = scale * f64::from(u16::MAX) >= CLIP;
        let mut classes: Vec<(u16, u32)> = codes
            .chunks_exact(2)
            .map(|bytes| bytes.try_into().map_or(0, u16::from_le_bytes))
            .zip(0..self.classes as u32)
            .filter(|(code, _)| *code > 0 || !is_clipped)
            .collect();
        let order = |a: &(u16, u32), b: &(u16, u32)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        let k = self.k as usize;
        if classes.len() > k {
            classes.select_nth_unstable_by(k - 1, order);
            classes.truncate(k);
        }
        classes.sort_unstable_by(order);
        let entry = |(code, id): (u16, u32)| Entry { id: id.into(), log_prob: minimum + scale * f64::from(code) };
        classes.into_iter().map(entry).collect()
    }
}

/// Little-endian i32 numbers; negative ones become numbers beyond any vocabulary.
fn integers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(-1, i32::from_le_bytes);
    bytes.chunks_exact(4).map(move |bytes| u64::try_from(number(bytes)).unwrap_or(u64::MAX))
}

impl Source for LlamaCpp {
    fn info(&self) -> SourceInfo {
        SourceInfo {
            // Every class that is above the clip, up to k of them.
            selection: Selection::TopP { p: 1.0, k: self.k },
            positions: PositionChoice::Marked {},
            source: RowSource { log_z: false, gold: GoldSource::Kept, tail: TailSource::Mass },
        }
    }

    fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        fingerprint::of_files("llama.cpp", &(self.k, self.start_token), [&*self.path])
    }

    fn samples(&self, range: Range<u64>) -> Result<Samples<'_>> {
        let file = File::open(&self.path).map_err(Error::io(&self.path, "read it"))?;
        let mut reader = BufReader::new(file);
        Ok(Box::new(range.map(move |index| self.sample(&mut reader, index))))
    }

    fn notes(&self) -> Vec<String> {
        let start =
            |token| format!("the first token of every window is taken to be {token}, with which llama.cpp begins each");
        self.start_token.map(start).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
