//! What machines read: figures of a cache, of its making, and of a training run.

use crate::paths::replace_file;
use anyhow::{Context, Result};
use logitcask_cache::{CodecError, LogZError, Manifest, PLAN_NAME};
use logitcask_core::Fingerprint;
use logitcask_teach::StageSeconds;
use logitcask_train::Evaluation;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;

/// Size and content of a cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheFigures {
    /// The manifest's hash: the cache's identity.
    pub root: Fingerprint,
    /// Positions in all splits.
    pub positions: u64,
    /// Kept classes in all positions.
    pub entries: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Shard bytes, inputs and all metadata included, for each position.
    pub bytes_per_position: f64,
    /// The same for each kept class.
    pub bytes_per_entry: f64,
    /// Mean probability at T = 1 of the kept classes.
    pub kept_mass: f64,
    /// What rounding the kept log-probabilities cost, in nats.
    pub codec_error: CodecError,
    /// What re-tempering costs, in nats, by temperature.
    pub log_z_error: Vec<LogZError>,
}

impl CacheFigures {
    /// Of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let totals = &manifest.totals;
        let per = |count: u64| totals.bytes as f64 / count.max(1) as f64;
        Self {
            root: manifest.root(),
            positions: totals.positions,
            entries: totals.entries,
            bytes: totals.bytes,
            bytes_per_position: per(totals.positions),
            bytes_per_entry: per(totals.entries),
            kept_mass: totals.kept_mass,
            codec_error: totals.codec_error,
            log_z_error: totals.log_z_error.clone(),
        }
    }
}

/// Busy time of stage 1's parts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stages {
    forward: f64,
    select: f64,
    write: f64,
}

impl From<StageSeconds> for Stages {
    fn from(s: StageSeconds) -> Self {
        Self { forward: s.forward, select: s.select, write: s.write }
    }
}

/// How stage 1 went, over all the runs it took. Lies beside the cache and is no part of its identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheRun {
    /// Wall time, loading and planning included.
    pub seconds: f64,
    /// Positions that went through the teacher.
    pub positions: u64,
    /// Where the teacher ran last.
    pub device: String,
    /// The recipe that was run last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Busy seconds of each part.
    pub stages: Stages,
}

const CACHE_RUN: &str = "_runs.json";

impl CacheRun {
    /// Adds it to what earlier runs left in the cache's folder; several workers may do so at once.
    pub fn add_to(mut self, folder: &Path) -> Result<()> {
        let path = folder.join(PLAN_NAME);
        let lock = File::open(&path).with_context(|| format!("{}: cannot open it", path.display()))?;
        // Where a file system has no locks, two workers that end at the same moment lose one's figures.
        let _ = lock.lock();
        if let Some(earlier) = Self::read(folder) {
            self.seconds += earlier.seconds;
            self.positions += earlier.positions;
            self.stages.forward += earlier.stages.forward;
            self.stages.select += earlier.stages.select;
            self.stages.write += earlier.stages.write;
        }
        write_json(&folder.join(CACHE_RUN), &self)
    }

    /// Reads it, where there is one.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(CACHE_RUN)).ok()?).ok()
    }
}

/// data/runs/RECIPE/summary.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The student on the held-out split.
    pub student: Evaluation,
    /// The student trained on labels alone, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Evaluation>,
    /// The cache it was taught from, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFigures>,
    /// Wall seconds by stage.
    pub seconds: Seconds,
}

impl Summary {
    /// Of the run in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let json = std::fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&json).with_context(|| path.display().to_string())
    }

    /// Into the run's `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(SUMMARY), self)
    }
}

const SUMMARY: &str = "summary.json";

/// Wall seconds by stage, over all calls it took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Stage 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<f64>,
    /// Training the student, over all calls.
    pub student: f64,
    /// Training the control, over all calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<f64>,
    /// Evaluation.
    pub eval: f64,
}

/// Pretty JSON and a newline; whoever reads it sees the old file or the new one.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    replace_file(path, &json)
}
