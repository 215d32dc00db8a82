//! Making the parts of a prepared dataset. Several processes may do it together: each claims a part before it makes it,
//! and a part that is complete is never made again.

use super::error::PreparedError;
use super::key::Stats;
use super::part::{Record, TEMP, file};
use super::progress::{PartMade, Progress};
use super::{create_json, read_json};
use crate::encode::Encoder;
use crate::error::Result;
use crate::source::{Source, Tally};
use crate::split_windows::Splits;
use crate::tokenizer::TextTokenizer;
use logitcask_files::LockFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tracing::debug;

/// Batches of a part. Of texts, that is 64 MiB.
const BATCHES: u64 = if cfg!(test) { 2 } else { 16 };
/// Time between two looks at the parts that other processes make.
const WAIT: Duration = Duration::from_millis(200);

/// Makes the parts of one dataset.
pub(super) struct Builder<'a> {
    pub(super) source: &'a Source<'a>,
    /// The files as they were when the preparation began.
    pub(super) stats: &'a Stats,
    pub(super) encoder: &'a Encoder<'a>,
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) max_length: usize,
    pub(super) folder: &'a Path,
    /// Consecutive files that are read together.
    pub(super) groups: &'a [Range<usize>],
    /// Whether the number of documents in earlier files decides how many are read.
    pub(super) has_limit: bool,
    /// Is called with every part that this process has made.
    pub(super) made: &'a dyn Fn(&PartMade<'_>),
    pub(super) progress: Progress,
}

/// What was counted in a group of files, and the number of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) parts: u64,
    pub(super) seen: u64,
    pub(super) kept: Vec<(Option<String>, u64)>,
    pub(super) blank: u64,
    pub(super) replaced: u64,
    pub(super) skipped: u64,
}

impl Group {
    /// Adds its documents to those of earlier groups.
    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.seen += self.seen;
        tally.blank += self.blank;
        tally.replaced += self.replaced;
        tally.skipped += self.skipped;
        for (split, kept) in &self.kept {
            *tally.of_split.entry(split.clone()).or_default() += kept;
        }
    }
}

/// Name of a part.
pub(super) fn part_name(group: usize, part: u64) -> String {
    format!("part-{group:05}-{part:05}")
}

/// Beginning of the names of the files that record groups.
const RECORD: &str = "files-";

/// Whether a file of this name records a group, and holds none of its windows.
pub(super) fn is_record(name: &str) -> bool {
    name.starts_with(RECORD)
}

/// The answer to a claim.
enum Claim {
    /// It is ours until this value is dropped.
    Mine(LockFile),
    Elsewhere,
    Complete,
}

impl Builder<'_> {
    /// Makes all parts that do not exist, or waits for other processes to make them. Returns the groups in order.
    pub(super) fn run(&self) -> Result<Vec<Group>> {
        if !self.has_limit {
            // Files that no process has begun come first, so that several processes read different ones.
            for group in 0..self.groups.len() {
                if !self.is_begun(group)? {
                    self.group(group, BTreeMap::new())?;
                }
            }
        }
        let (mut groups, mut before) = (vec![], Tally::default());
        for group in 0..self.groups.len() {
            let kept = if self.has_limit { before.of_split.clone() } else { BTreeMap::new() };
            let done = self.complete(group, &kept)?;
            done.add_to(&mut before);
            groups.push(done);
        }
        Ok(groups)
    }

    /// Makes a group's parts until all of them exist.
    fn complete(&self, group: usize, kept: &BTreeMap<Option<String>, u64>) -> Result<Group> {
        loop {
            let done = match read_json::<Group>(&self.group_path(group))? {
                Some(done) => {
                    self.progress.count_done(group, self.bytes(group));
                    done
                }
                None => self.group(group, kept.clone())?,
            };
            let mut missing = vec![];
            for part in 0..done.parts {
                if !self.exists(group, part) {
                    missing.push(part);
                }
            }
            // Parts of other processes are waited for. If one of those ended, its claim is free.
            while let Some(&part) = missing.first() {
                let claim = self.claim(group, part)?;
                match claim {
                    Claim::Elsewhere => thread::sleep(WAIT),
                    Claim::Complete => _ = missing.remove(0),
                    Claim::Mine(held) => {
                        // `group` claims every part that it makes.
                        drop(held);
                        self.group(group, kept.clone())?;
                        break;
                    }
                }
            }
            if missing.is_empty() {
                return Ok(done);
            }
        }
    }

    /// Bytes of a group's files.
    fn bytes(&self, group: usize) -> u64 {
        self.stats.bytes(self.groups[group].clone())
    }

    fn group_path(&self, group: usize) -> PathBuf {
        self.folder.join(format!("{RECORD}{group:05}.json"))
    }

    fn exists(&self, group: usize, part: u64) -> bool {
        file(self.folder, &part_name(group, part), "json").exists()
    }

    /// Whether a process has made a part of a group, or claimed the first one.
    fn is_begun(&self, group: usize) -> Result<bool> {
        let first = self.claim(group, 0)?;
        Ok(!matches!(first, Claim::Mine(_)) || self.group_path(group).exists())
    }

    /// Reads a group's files, and makes the parts that do not exist and that no other process makes. `kept` counts the
    /// documents of earlier groups if there is a limit.
    fn group(&self, group: usize, kept: BTreeMap<Option<String>, u64>) -> Result<Group> {
        let files = self.groups[group].clone();
        debug!(group, files = files.len(), "preparing files");
        let (mut batches, mut claim, mut splits) = (0, None, Splits::new(self.max_length));
        let mut read = 0;
        let before = Tally { of_split: kept.clone(), ..Tally::default() };
        let tally = self.encoder.run(files, before, &mut |batch| {
            if batches % BATCHES == 0 {
                self.finish(group, batches / BATCHES, claim.take(), &mut splits, read)?;
                claim = Some(self.claim(group, batches / BATCHES)?);
            }
            batches += 1;
            if let Some(last) = batch.last() {
                read = self.stats.bytes(self.groups[group].start..last.file) + last.bytes_read;
            }
            if let Some(Claim::Mine(_)) = claim {
                let encoded = self.encoder.encode(batch)?;
                encoded.into_iter().try_for_each(|encoded| splits.append(encoded, self.tokenizer))?;
            }
            Ok(())
        })?;
        let parts = u64::div_ceil(batches, BATCHES);
        self.finish(group, parts, claim, &mut splits, self.bytes(group))?;
        let of_split = tally.of_split.into_iter().map(|(split, count)| {
            let earlier = kept.get(&split).copied().unwrap_or(0);
            (split, count - earlier)
        });
        let (seen, blank, replaced, skipped) = (tally.seen, tally.blank, tally.replaced, tally.skipped);
        let done = Group { parts, seen, kept: of_split.collect(), blank, replaced, skipped };
        self.stats.check(self.source, self.groups[group].clone())?;
        create_json(&self.group_path(group), &done)?;
        self.progress.count_read(group, self.bytes(group));
        Ok(done)
    }

    /// Writes the part before `next`, if it was claimed, after `read` bytes of the group's files.
    fn finish(&self, group: usize, next: u64, claim: Option<Claim>, splits: &mut Splits, read: u64) -> Result<()> {
        let windows = std::mem::replace(splits, Splits::new(self.max_length));
        if let Some(Claim::Mine(_)) = &claim {
            // A part of a file that changed must not be found by a later preparation of the file as it was.
            self.stats.check(self.source, self.groups[group].clone())?;
            let (name, windows) = (part_name(group, next - 1), windows.sorted());
            let record = Record::write(self.folder, &name, &windows)?;
            let tokens = record.splits.iter().map(|split| split.tokens).sum();
            (self.made)(&self.progress.after_part(&name, tokens, read));
        }
        drop(claim);
        Ok(())
    }

    fn claim(&self, group: usize, part: u64) -> Result<Claim> {
        if self.exists(group, part) {
            return Ok(Claim::Complete);
        }
        let path = self.folder.join(format!("{TEMP}claim-{}", part_name(group, part)));
        // On a file system without locks, parts may be made twice.
        let held = LockFile::try_hold(&path).map_err(PreparedError::write(&path))?;
        let Some(held) = held else { return Ok(Claim::Elsewhere) };
        // The previous owner may have completed the part just before it released the claim.
        Ok(if self.exists(group, part) { Claim::Complete } else { Claim::Mine(held) })
    }
}
