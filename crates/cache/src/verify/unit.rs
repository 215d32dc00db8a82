//! Verification of one unit: its shard, its rows, and its records in manifest and commit.

use super::records::Told;
use super::{Check, Finding, Tier, exists};
use crate::commit::{Commit, Tally};
use crate::error::Error;
use crate::plan::Plan;
use crate::ranges::{self, ShardRange};
use crate::row_group::rows_of_group;
use crate::shard::Shard;
use crate::shard_part::ShardPart;
use bytes::Bytes;
use logitcask_core::Fingerprint;
use std::ops::Range;

/// A file and its record of a unit.
type Record<'a> = (String, &'a Commit);
/// The numbers of the ranges that do not have their hashes, and the hashes they have.
type Damage = Vec<(usize, Fingerprint)>;

/// What was read of a shard: in [`Tier::Structure`] nothing but its length.
pub(super) struct Read<'r> {
    length: u64,
    bytes: Option<Bytes>,
    /// The records that agree with it.
    agreeing: Vec<Record<'r>>,
}

impl Check {
    /// Checks everything about `unit`.
    pub(super) fn unit(&mut self, plan: (&Plan, Fingerprint), unit: usize, told: &Told) {
        let shard = plan.0.shard_name(unit);
        let told: Vec<Record<'_>> = told.iter().map(|(file, commit)| (file.clone(), commit)).collect();
        let before = self.report.findings.len();
        let is_written = !told.is_empty() || exists(self.store.as_ref(), &shard).unwrap_or(true);
        if is_written && let Some(read) = self.bytes(&shard, unit, Some(plan), &told) {
            self.rows_and_counts(plan, unit, &shard, read);
        }
        if let [(_, first), (file, second)] = &told[..]
            && first != second
            && !self.report.findings[before..].iter().any(|finding| told.iter().any(|(file, _)| *file == finding.file))
        {
            self.found(file, Some(unit), format!("unit {unit}: says {second:?}, which was {first:?}"));
        }
    }

    /// Reads a shard that may be decoded, with the records that it agrees with. If it agrees with no record, the shard is
    /// damaged; if it agrees with some, the other records are.
    pub(super) fn bytes<'r>(
        &mut self,
        shard: &str,
        unit: usize,
        plan: Option<(&Plan, Fingerprint)>,
        told: &[Record<'r>],
    ) -> Option<Read<'r>> {
        let mut read = match self.read(shard) {
            Ok(read) => read,
            Err(error) => {
                self.failed(shard, Some(unit), &error);
                return None;
            }
        };
        let mut damages: Vec<(&[ShardRange], Option<Damage>)> = Vec::new();
        for (_, record) in told {
            let known = damages.iter().find(|(ranges, _)| *ranges == record.ranges).map(|(_, damage)| damage.clone());
            let damage = known.unwrap_or_else(|| self.damage(shard, record, &read));
            damages.push((&record.ranges, damage));
        }
        let agrees = |damage: &Option<Damage>| damage.as_ref().is_some_and(Vec::is_empty);
        let is_some_right = damages.iter().any(|(_, damage)| agrees(damage));
        for ((file, record), (_, damage)) in told.iter().zip(&damages) {
            if agrees(damage) {
                read.agreeing.push((file.clone(), record));
            } else if is_some_right {
                let what = format!(
                    "unit {unit}: {} bytes in the ranges {:?}, the shard is another",
                    record.bytes, record.ranges
                );
                self.found(file, Some(unit), what);
            }
        }
        match (told.first(), damages.first()) {
            (Some((_, record)), Some((_, damage))) if !is_some_right => {
                self.damaged(shard, unit, plan, record, damage.as_deref(), &read);
                None
            }
            _ => Some(read),
        }
    }

    /// Reads all bytes of a shard, or only its length.
    fn read<'r>(&self, shard: &str) -> crate::Result<Read<'r>> {
        let (store, agreeing) = (self.store.as_ref(), Vec::new());
        if self.tier == Tier::Structure {
            return Ok(Read { length: crate::store::existing_meta(store, shard)?.bytes, bytes: None, agreeing });
        }
        let bytes = store.get(shard, u64::MAX)?;
        Ok(Read { length: bytes.len() as u64, bytes: Some(bytes), agreeing })
    }

    /// The ranges of a shard that differ from a record; `None` if its length does. Without the bytes only the last range
    /// is looked at.
    fn damage(&self, shard: &str, record: &Commit, read: &Read<'_>) -> Option<Damage> {
        // Saturating like the places of the ranges.
        let places = ranges::places(&record.ranges);
        let (last, place) = (record.ranges.last()?, places.last()?.clone());
        if place.end != read.length || record.bytes != read.length {
            return None;
        }
        match &read.bytes {
            Some(bytes) => Some(ranges::damaged(&record.ranges, bytes)),
            None => {
                let got = Fingerprint::of(&self.store.get_range(shard, place).ok()?);
                let footer = (record.ranges.len() - 1, got);
                Some(if got == last.blake3 { Vec::new() } else { vec![footer] })
            }
        }
    }

    /// Reports a shard that agrees with no record.
    fn damaged(
        &mut self,
        shard: &str,
        unit: usize,
        plan: Option<(&Plan, Fingerprint)>,
        record: &Commit,
        damage: Option<&[(usize, Fingerprint)]>,
        read: &Read<'_>,
    ) {
        let path = self.store.path(shard);
        let Some(damage) = damage else {
            let (expected, got) = (record.bytes, read.length);
            return self.failed(shard, Some(unit), &Error::Size { path, expected, got });
        };
        let is_readable = damage.iter().all(|(number, _)| number + 1 < record.ranges.len());
        let open = |plan| Shard::open(&self.store, plan, unit, record, None).ok();
        let rows: Vec<Range<u64>> = match plan.filter(|_| is_readable).and_then(open) {
            Some(shard) => shard.rows_of_groups().collect(),
            None => Vec::new(),
        };
        for (number, got) in damage.iter().copied() {
            let rows = rows.get(number).cloned();
            let part = match (ShardPart::of(number, record.ranges.len()), &rows) {
                (ShardPart::RowGroup { number, .. }, Some(rows)) => {
                    let samples = Some(record.start + rows.start..record.start + rows.end);
                    ShardPart::RowGroup { number, samples }
                }
                (part, _) => part,
            };
            let (part, expected) = (Box::new(part), record.ranges[number].blake3);
            let error = Error::Damaged { path: path.clone(), part, expected, got };
            let what = self.what(shard, &error);
            self.report.findings.push(Finding { file: shard.to_owned(), unit: Some(unit), rows, what });
        }
    }

    fn rows_and_counts(&mut self, (plan, id): (&Plan, Fingerprint), unit: usize, name: &str, read: Read<'_>) {
        let (path, records) = (self.store.path(name), read.agreeing);
        let shard = match (records.first(), read.bytes) {
            (Some((_, record)), bytes) => Shard::of_verified(&self.store, (plan, id), unit, record, bytes),
            (None, Some(bytes)) => Shard::of_bytes(path, bytes, (plan, id), unit),
            (None, None) => return,
        };
        let shard = match shard {
            Ok(shard) => shard,
            Err(error) => return self.failed(name, Some(unit), &error),
        };
        if self.tier == Tier::Structure {
            return;
        }
        let Some(tally) = self.rows(plan, unit, name, &shard) else { return };
        let counted = (tally.rows, tally.positions, tally.entries, tally.kept_mass());
        for (file, record) in &records {
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
