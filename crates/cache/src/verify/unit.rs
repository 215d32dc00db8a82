//! Verification of one unit: its shard, its rows, and its records in manifest and commit.

use super::{Check, Finding, Records, Tier};
use crate::commit::{self, Commit, Tally};
use crate::error::Error;
use crate::names::MANIFEST_NAME;
use crate::plan::Plan;
use crate::row_group::rows_of_group;
use crate::shard::Shard;
use crate::storage;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use std::ops::Range;

/// A file and its record of a unit.
type Record<'a> = (String, &'a Commit);

impl Check<'_> {
    /// Checks everything about `unit`.
    pub(super) fn unit(&mut self, plan: (&Plan, Fingerprint), unit: usize, shard: &str, records: &Records) {
        let commit = records.commits[unit].as_ref().map(|commit| (commit::name(unit), commit));
        let manifest = records.manifest.as_ref().map(|m| (MANIFEST_NAME.to_owned(), &m.shards[unit]));
        let both = [manifest, commit];
        let (first, second) = if records.commits_win { (1, 0) } else { (0, 1) };
        let told: Vec<Record<'_>> = [both[first].clone(), both[second].clone()].into_iter().flatten().collect();
        let before = self.report.findings.len();
        let is_written = !told.is_empty() || self.folder.join(shard).exists();
        if is_written && let Some((bytes, agreeing)) = self.bytes(shard, unit, &told) {
            self.rows_and_counts(plan, unit, shard, bytes, &agreeing);
        }
        if let [(_, first), (file, second)] = &told[..]
            && first != second
            && !self.report.findings[before..].iter().any(|finding| told.iter().any(|(file, _)| *file == finding.file))
        {
            self.found(file, Some(unit), format!("unit {unit}: says {second:?}, which was {first:?}"));
        }
    }

    /// Reads the bytes of a shard that may be decoded, with the records that they agree with. If they agree with no
    /// record, the shard is damaged; if they agree with some, the other records are.
    pub(super) fn bytes<'r>(
        &mut self,
        shard: &str,
        unit: usize,
        told: &[Record<'r>],
    ) -> Option<(Bytes, Vec<Record<'r>>)> {
        let path = self.folder.join(shard);
        let bytes = storage::read_all(&path).map_err(|error| self.failed(shard, Some(unit), &error)).ok()?;
        let (got, hash) = (bytes.len() as u64, (self.tier == Tier::Rows).then(|| Fingerprint::of(&bytes)));
        let is_its = |record: &Commit| record.bytes == got && hash.is_none_or(|hash| hash == record.blake3);
        let (agreeing, others): (Vec<_>, Vec<_>) = told.iter().cloned().partition(|(_, record)| is_its(record));
        if !agreeing.is_empty() {
            for (file, record) in others {
                let what =
                    format!("unit {unit}: {} bytes of BLAKE3 {}, the shard is another", record.bytes, record.blake3);
                self.found(&file, Some(unit), what);
            }
        } else if let Some((_, Commit { bytes: expected, blake3, .. })) = told.first() {
            if *expected != got {
                self.failed(shard, Some(unit), &Error::Size { path, expected: *expected, got });
                return None;
            }
            if let Some(got) = hash {
                self.failed(shard, Some(unit), &Error::Checksum { path, expected: *blake3, got });
            }
        }
        Some((bytes, agreeing))
    }

    fn rows_and_counts(
        &mut self,
        (plan, id): (&Plan, Fingerprint),
        unit: usize,
        name: &str,
        bytes: Bytes,
        records: &[Record<'_>],
    ) {
        let shard = match Shard::of_bytes(self.folder.join(name), bytes, (plan, id), unit) {
            Ok(shard) => shard,
            Err(error) => return self.failed(name, Some(unit), &error),
        };
        if self.tier == Tier::Structure {
            return;
        }
        let Some(tally) = self.rows(plan, unit, name, &shard) else { return };
        let counted = (tally.rows, tally.positions, tally.entries, tally.kept_mass());
        for (file, record) in records {
            let recorded = (record.rows, record.positions, record.entries, record.kept_mass);
            if recorded != counted {
                let what = format!(
                    "unit {unit}: rows, positions, entries and kept mass are {recorded:?}, the shard has {counted:?}"
                );
                self.found(file, Some(unit), what);
            }
        }
    }

    /// Decodes every block; returns the counts of all rows if all are valid.
    fn rows(&mut self, plan: &Plan, unit: usize, name: &str, shard: &Shard) -> Option<Tally> {
        let mut tally = Some(Tally::default());
        for block in 0.. {
            let rows = rows_of_group(plan, unit, block);
            if rows == 0 {
                break;
            }
            match shard.read(plan, block as usize, 0..rows) {
                Ok(samples) => {
                    self.report.rows += rows;
                    tally.iter_mut().for_each(|tally| samples.iter().for_each(|sample| tally.add(&sample.rows)));
                }
                Err(error) => {
                    tally = None;
                    self.bad_rows(plan, (unit, block, rows), name, shard, &error);
                }
            }
        }
        tally
    }

    /// Finds the bad rows of a block that fails with `error`: one finding for each contiguous run of them.
    fn bad_rows(
        &mut self,
        plan: &Plan,
        (unit, block, rows): (usize, u64, u64),
        name: &str,
        shard: &Shard,
        error: &Error,
    ) {
        let first = block * plan.rows_per_group();
        let before = self.report.findings.len();
        for row in 0..rows {
            let Err(error) = shard.read(plan, block as usize, row..row + 1) else {
                self.report.rows += 1;
                continue;
            };
            let row = first + row;
            match self.report.findings[before..].last_mut().and_then(|finding| finding.rows.as_mut()) {
                Some(run) if run.end == row => run.end += 1,
                _ => self.found_rows(name, unit, row..row + 1, &error),
            }
        }
        if self.report.findings.len() == before {
            self.found_rows(name, unit, first..first + rows, error);
        }
    }

    fn found_rows(&mut self, name: &str, unit: usize, rows: Range<u64>, error: &Error) {
        let what = self.what(name, error);
        self.report.findings.push(Finding { file: name.to_owned(), unit: Some(unit), rows: Some(rows), what });
    }
}
