//! Writing a cache, unit by unit, from as many workers as there are.

use crate::codec;
use crate::commit::{self, Commit};
use crate::error::{Error, Result};
use crate::json;
use crate::manifest::{MANIFEST_NAME, Manifest};
use crate::plan::{COMMITS_DIR, DATA_DIR, PLAN_NAME, Plan, TOKENIZER_NAME};
use crate::publish;
use logitcask_core::{Fingerprint, Sample, SoftRows};
use std::fs;
use std::path::{Path, PathBuf};

/// A cache in the making. Any number of them, in one process or many, may work on the same folder.
#[derive(Debug)]
pub struct CacheWriter {
    folder: PathBuf,
    plan: Plan,
}

impl CacheWriter {
    /// Begins a cache in `folder`, or goes on with the one that is there if its plan is the same.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] where another cache lives in `folder`, [`Error::BadPlan`] where [`Plan::check`] refuses the
    /// plan or `tokenizer_json` is not the tokenizer it pins.
    pub fn open(folder: &Path, plan: Plan, tokenizer_json: &[u8]) -> Result<Self> {
        plan.check()?;
        let (got, pinned) = (Fingerprint::of(tokenizer_json), plan.tokenizer.fingerprint);
        if got != pinned {
            return Err(Error::BadPlan { problem: format!("the tokenizer's hash is {got}, the plan pins {pinned}") });
        }
        publish::create_folder(&folder.join(DATA_DIR))?;
        publish::create_folder(&folder.join(COMMITS_DIR))?;
        if !publish::create(&folder.join(PLAN_NAME), &json::to_bytes(&plan))? {
            let here = Plan::read(folder)?;
            if here != plan {
                return Err(Error::OtherPlan { path: folder.to_owned(), differences: here.differences(&plan) });
            }
        }
        let tokenizer = folder.join(TOKENIZER_NAME);
        if !publish::create(&tokenizer, tokenizer_json)? {
            check_tokenizer(&tokenizer, &plan)?;
        }
        Ok(Self { folder: folder.to_owned(), plan })
    }

    /// What is being written.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Units without a commit, ascending.
    pub fn pending(&self) -> Result<Vec<usize>> {
        let mut pending = Vec::new();
        for unit in 0..self.plan.units.len() {
            if !commit::exists(&self.folder, unit)? {
                pending.push(unit);
            }
        }
        Ok(pending)
    }

    /// Makes the rows of `unit` durable. Writing a unit again is harmless: its first commit stands and is returned.
    ///
    /// # Errors
    /// [`Error::BadRow`] names the sample and position that must not be written; [`Error::ForeignShard`] where a shard
    /// with other bytes already has the name.
    ///
    /// # Panics
    /// Where the plan has no such unit.
    pub fn write_unit(&self, unit: usize, rows: &[(Sample, SoftRows)]) -> Result<Commit> {
        let kept_mass = self.check_rows(unit, rows)?;
        if let Some(commit) = Commit::read(&self.folder, &self.plan, unit)? {
            return Ok(commit);
        }
        let shard = self.plan.shard_name(unit);
        let path = self.folder.join(&shard);
        let bytes =
            codec::encode(&self.plan, unit, rows).map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let blake3 = Fingerprint::of(&bytes);
        if !publish::create(&path, &bytes)? {
            let there = fs::read(&path).map_err(Error::io(&path, "read the shard that is already there"))?;
            let got = Fingerprint::of(&there);
            if got != blake3 {
                // Unless another worker committed its own bytes meanwhile, nobody vouches for the shard that is there.
                let commit = Commit::read(&self.folder, &self.plan, unit)?;
                return commit.ok_or(Error::ForeignShard { path, expected: blake3, got });
            }
        }
        let sum = |of: fn(&SoftRows) -> usize| rows.iter().map(|(_, soft)| of(soft) as u64).sum();
        let range = &self.plan.units[unit];
        let commit = Commit {
            unit: unit as u32,
            split: range.split.clone(),
            start: range.start,
            end: range.end,
            shard,
            rows: rows.len() as u64,
            positions: sum(SoftRows::len),
            entries: sum(|soft| soft.class_ids.len()),
            bytes: bytes.len() as u64,
            blake3,
            kept_mass,
        };
        let path = commit::path(&self.folder, unit);
        if publish::create(&path, &json::to_bytes(&commit))? {
            return Ok(commit);
        }
        let there = Commit::read(&self.folder, &self.plan, unit)?;
        there.filter(|there| *there == commit).ok_or_else(|| Error::malformed(&path, "speaks of another shard"))
    }

    /// Refuses rows that a reader would refuse, or that are not `unit`'s; gives the mean kept mass.
    fn check_rows(&self, unit: usize, rows: &[(Sample, SoftRows)]) -> Result<f64> {
        let range = &self.plan.units[unit];
        let bad = |sample, problem| Error::BadRow { split: range.split.clone(), sample, problem };
        let expected = range.end - range.start;
        if rows.len() as u64 != expected {
            let problem = format!("unit {unit} got {} samples, it has {expected} from here", rows.len());
            return Err(bad(range.start, problem));
        }
        let (mut mass, mut positions) = (0.0, 0usize);
        for (id, (sample, soft)) in (range.start..range.end).zip(rows) {
            if sample.id.0 != id {
                return Err(bad(id, format!("sample {} was given in its place", sample.id.0)));
            }
            codec::check_row(&self.plan, sample, soft).map_err(|problem| bad(id, problem))?;
            let rounded = codec::rounded(soft);
            codec::check_row(&self.plan, sample, &rounded)
                .map_err(|problem| bad(id, format!("once rounded to f16, {problem}")))?;
            mass += rounded.iter().map(|row| row.kept_mass()).sum::<f64>();
            positions += rounded.len();
        }
        Ok(commit::round(mass / positions.max(1) as f64))
    }

    /// Declares the cache complete: writes its manifest and clears away what killed runs left.
    ///
    /// # Errors
    /// [`Error::Unfinished`] while a unit lacks its commit.
    pub fn finish(&self) -> Result<Manifest> {
        let commits = (0..self.plan.units.len()).map(|unit| Commit::read(&self.folder, &self.plan, unit));
        let commits: Vec<Commit> = commits.filter_map(Result::transpose).collect::<Result<_>>()?;
        let (committed, units) = (commits.len(), self.plan.units.len());
        if committed < units {
            return Err(Error::Unfinished { path: self.folder.clone(), committed, units });
        }
        for commit in &commits {
            let path = self.folder.join(&commit.shard);
            let got = fs::metadata(&path).map_err(Error::io(&path, "find the committed shard"))?.len();
            if got != commit.bytes {
                return Err(Error::Size { path, expected: commit.bytes, got });
            }
        }
        let manifest = Manifest::new(&self.plan, commits);
        let path = self.folder.join(MANIFEST_NAME);
        if !publish::create(&path, &json::to_bytes(&manifest))? && Manifest::read(&self.folder, &self.plan)? != manifest
        {
            return Err(Error::malformed(&path, "not what the plan and commits beside it make"));
        }
        for folder in [self.folder.clone(), self.folder.join(DATA_DIR), self.folder.join(COMMITS_DIR)] {
            publish::remove_leftovers(&folder)?;
        }
        Ok(manifest)
    }
}

/// The tokenizer beside the shards must be the one the plan pins.
pub(crate) fn check_tokenizer(path: &Path, plan: &Plan) -> Result<()> {
    let (got, expected) = (Fingerprint::of(&json::read_bytes(path)?), plan.tokenizer.fingerprint);
    if got == expected { Ok(()) } else { Err(Error::Checksum { path: path.to_owned(), expected, got }) }
}
