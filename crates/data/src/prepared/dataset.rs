//! The samples of a prepared dataset.

use super::Manifest;
use super::error::PreparedError;
use super::part::{Window, file};
use super::reader::{OpenFiles, Part, Windows};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::split_windows::{Fingerprinter, order};
use logitcask_core::{Fingerprint, InputHash, Origin, PositionChoice, Positions, Sample, SampleId};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Number of windows that are read together to go through all of them.
const TOGETHER: u64 = 4096;

/// A dataset that was tokenised to disk, see [`Preparation`](super::Preparation). Its parts are read in ranges, and each
/// file is compared with its hash before it is used for the first time.
#[derive(Debug)]
pub struct PreparedDataset {
    folder: PathBuf,
    name: String,
    max_length: usize,
    fingerprint: Fingerprint,
    rendering: BTreeMap<String, String>,
    notes: Vec<String>,
    parts: Vec<Part>,
    splits: Vec<SplitParts>,
    has_marks: bool,
    files: OpenFiles,
}

/// What is not in the files of a prepared dataset.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) max_length: usize,
    pub(super) rendering: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
}

/// The windows of one split.
#[derive(Debug)]
struct SplitParts {
    name: String,
    windows: u64,
    documents: u64,
    tokens: u64,
    /// The parts that have some, in order.
    pieces: Vec<Piece>,
}

/// The windows of one split in one part.
#[derive(Clone, Copy, Debug)]
struct Piece {
    part: usize,
    /// Number of windows of the split in earlier parts.
    first: u64,
    windows: u64,
    /// Number of windows of other splits before them in the part.
    skipped: u64,
    /// Number of documents in the source before those of the part's files.
    documents_before: u64,
}

impl PreparedDataset {
    pub(super) fn new(folder: &Path, manifest: Manifest, described: Described) -> Result<Self> {
        let Described { name, max_length, rendering, notes } = described;
        let mut splits: BTreeMap<String, SplitParts> = BTreeMap::new();
        let mut has_marks = false;
        let mut documents_before = 0;
        let of_part = manifest.groups.iter().flat_map(|group| {
            let before = documents_before;
            documents_before += group.seen;
            (0..group.parts).map(move |_| before)
        });
        for (part, (record, documents_before)) in manifest.parts.iter().zip(of_part).enumerate() {
            let mut skipped = 0;
            for of_part in &record.splits {
                let split = splits.entry(of_part.name.clone()).or_insert_with(|| SplitParts::new(&of_part.name));
                let (first, windows) = (split.windows, of_part.windows);
                split.pieces.push(Piece { part, first, windows, skipped, documents_before });
                split.windows += windows;
                split.documents += of_part.documents;
                split.tokens += of_part.tokens;
                skipped += windows;
                has_marks |= of_part.has_marks;
            }
        }
        let mut splits: Vec<SplitParts> = splits.into_values().filter(|split| split.windows > 0).collect();
        splits.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
        let names = super::names(&manifest.groups);
        let parts = names.zip(manifest.parts).map(|(name, record)| Part::new(folder, &name, record)).collect();
        let (folder, fingerprint) = (folder.to_owned(), manifest.fingerprint);
        let files = OpenFiles::default();
        Ok(Self { folder, name, max_length, fingerprint, rendering, notes, parts, splits, has_marks, files })
    }

    /// Notes in plain sentences about texts that were blank, repaired or left out, and files that were not read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Number of documents from which a split's samples were made.
    pub fn documents(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.documents)
    }

    /// Number of tokens of these documents, including end tokens, without start tokens and overlaps of windows.
    pub fn tokens(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.tokens)
    }

    fn split(&self, name: &str) -> Option<&SplitParts> {
        self.splits.iter().find(|split| split.name == name)
    }

    /// The pieces that contain these samples, each with the range of windows in its part.
    fn pieces(&self, split: &str, ids: Range<u64>) -> Result<impl Iterator<Item = (Piece, Range<u64>)> + '_> {
        let samples = self.len(split);
        let missing = |id| Error::NoSample { split: split.to_owned(), sample: SampleId(id), samples };
        let found = self.split(split).ok_or_else(|| missing(ids.start))?;
        if ids.end > samples {
            return Err(missing(ids.start.max(samples)));
        }
        let from = found.pieces.partition_point(|piece| piece.first + piece.windows <= ids.start);
        let within = found.pieces[from..].iter().take_while(move |piece| piece.first < ids.end);
        Ok(within.map(move |piece| {
            let start = ids.start.max(piece.first) - piece.first + piece.skipped;
            let end = ids.end.min(piece.first + piece.windows) - piece.first + piece.skipped;
            (*piece, start..end)
        }))
    }

    /// The window of one sample, its piece, and the window before it in its part.
    fn window(&self, split: &str, id: SampleId) -> Result<(Piece, Window, Window)> {
        let mut pieces = self.pieces(split, id.0..id.0.saturating_add(1))?;
        let missing = || Error::NoSample { split: split.to_owned(), sample: id, samples: self.len(split) };
        let (piece, range) = pieces.next().ok_or_else(missing)?;
        let Windows { before, windows } = self.parts[piece.part].windows(range, &self.files)?;
        let window = windows.first().copied().ok_or_else(|| self.damaged(piece.part, "has no such window"))?;
        self.check(piece, before, window)?;
        Ok((piece, before, window))
    }

    /// Checks a window before memory is allocated for it.
    fn check(&self, piece: Piece, before: Window, window: Window) -> Result<()> {
        let length = window.end.saturating_sub(before.end);
        let marked = window.marked_end.checked_sub(before.marked_end).unwrap_or(u64::MAX);
        match (2..=self.max_length as u64).contains(&length) && marked < length {
            true => Ok(()),
            false => Err(self.damaged(piece.part, "has a window of impossible length")),
        }
    }

    fn damaged(&self, part: usize, problem: &str) -> Error {
        let path = file(&self.folder, self.parts[part].name(), "index");
        PreparedError::damaged(&path, problem).into()
    }

    /// Calls `each` with all windows of a range of samples, in order.
    fn for_each_window(
        &self,
        split: &str,
        ids: Range<u64>,
        each: &mut dyn FnMut(Piece, &Windows) -> Result<()>,
    ) -> Result<()> {
        for (piece, range) in self.pieces(split, ids)? {
            for start in range.clone().step_by(TOGETHER as usize) {
                let together = start..range.end.min(start + TOGETHER);
                let windows = self.parts[piece.part].windows(together, &self.files)?;
                let mut before = windows.before;
                for window in &windows.windows {
                    self.check(piece, before, *window)?;
                    before = *window;
                }
                each(piece, &windows)?;
            }
        }
        Ok(())
    }

    /// See `fingerprint` of [`TextDataset`](crate::TextDataset), computed from the parts.
    pub(super) fn compute_fingerprint(&self) -> Result<Fingerprint> {
        let mut fingerprint = Fingerprinter::new(self.max_length, &self.rendering);
        for split in &self.splits {
            fingerprint.split(&split.name, split.windows);
            self.for_each_window(&split.name, 0..split.windows, &mut |piece, windows| {
                self.add_windows(&mut fingerprint, piece, windows)
            })?;
        }
        Ok(fingerprint.finish())
    }

    fn add_windows(&self, fingerprint: &mut Fingerprinter, piece: Piece, windows: &Windows) -> Result<()> {
        let (Windows { before, windows }, part) = (windows, &self.parts[piece.part]);
        let Some(last) = windows.last() else { return Ok(()) };
        let tokens = part.tokens(before.end..last.end, &self.files)?;
        let marked = part.marked(before.marked_end..last.marked_end, &self.files)?;
        let starts: Vec<Window> = std::iter::once(*before).chain(windows.iter().copied()).collect();
        let within = |end: u64, start: u64| (end - start) as usize;
        let inputs: Vec<InputHash> = starts
            .par_windows(2)
            .map(|pair| InputHash::of(&tokens[within(pair[0].end, before.end)..within(pair[1].end, before.end)]))
            .collect();
        for (pair, input) in starts.windows(2).zip(inputs) {
            let origin = origin(piece, pair[1]);
            let range = within(pair[0].marked_end, before.marked_end)..within(pair[1].marked_end, before.marked_end);
            fingerprint.window(origin, input, self.has_marks.then(|| &marked[range]));
        }
        Ok(())
    }

    pub(super) fn manifest_fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl SplitParts {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), windows: 0, documents: 0, tokens: 0, pieces: vec![] }
    }
}

fn origin(piece: Piece, window: Window) -> Origin {
    Origin { document: piece.documents_before + window.document, offset: window.offset }
}

impl Dataset for PreparedDataset {
    fn splits(&self) -> Vec<(String, u64)> {
        self.splits.iter().map(|split| (split.name.clone(), split.windows)).collect()
    }

    fn len(&self, split: &str) -> u64 {
        self.split(split).map_or(0, |split| split.windows)
    }

    fn length_of(&self, split: &str, id: SampleId) -> Result<usize> {
        let (_, before, window) = self.window(split, id)?;
        Ok((window.end - before.end) as usize)
    }

    fn sample(&self, split: &str, id: SampleId) -> Result<Sample> {
        let (piece, before, window) = self.window(split, id)?;
        let part = &self.parts[piece.part];
        let tokens = part.tokens(before.end..window.end, &self.files)?;
        let positions = match self.has_marks {
            true => Positions::Chosen(part.marked(before.marked_end..window.marked_end, &self.files)?),
            false => Positions::All,
        };
        Ok(Sample { positions, ..Sample::new(id, origin(piece, window), tokens) })
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn rendering(&self) -> BTreeMap<String, String> {
        self.rendering.clone()
    }

    fn marks_positions(&self) -> bool {
        self.has_marks
    }

    fn position_count(&self, split: &str, id: SampleId) -> Result<usize> {
        let (_, before, window) = self.window(split, id)?;
        Ok(match self.has_marks {
            true => (window.marked_end - before.marked_end) as usize,
            false => (window.end - before.end) as usize - 1,
        })
    }

    fn positions(&self, split: &str, ids: Range<u64>, choice: &PositionChoice) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut positions = 0;
        self.for_each_window(split, ids, &mut |_, Windows { before, windows }| {
            let mut before = *before;
            for window in windows {
                let next_tokens = window.end - before.end - 1;
                let candidates = if self.has_marks { window.marked_end - before.marked_end } else { next_tokens };
                positions += match choice.is_all() {
                    true => next_tokens,
                    false => choice.count_of(candidates as usize) as u64,
                };
                before = *window;
            }
            Ok(())
        })?;
        Ok(positions)
    }
}
