//! What machines read: figures of a cache, of its making, and of a training run.

use crate::paths::replace_file;
use anyhow::{Context, Result};
use logitcask_cache::{CodecError, LogZError, Manifest};
use logitcask_core::Fingerprint;
use logitcask_teach::StageSeconds;
use logitcask_train::Evaluation;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Size and content of a cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheFigures {
    /// The manifest's hash: the cache's identity.
    pub cache_id: Fingerprint,
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
            cache_id: manifest.cache_id(),
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

/// How a run of stage 1 went, or all the runs that a cache took. Lies beside the cache and is no part of its identity.
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

/// One line for each run.
const CACHE_RUNS: &str = "_runs.jsonl";

impl CacheRun {
    /// Adds it to the log in the cache's folder.
    pub fn add_to(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CACHE_RUNS);
        // Behind whatever a killed run left of its line.
        let line = format!("\n{}\n", serde_json::to_string(self)?);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        // One call: several workers may do so at once.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("{}: cannot add to it", path.display()))
    }

    /// Reads all runs, added up; `None` where there is none. Half a line, as a killed run leaves it, is passed over.
    pub fn read(folder: &Path) -> Option<Self> {
        let log = std::fs::read(folder.join(CACHE_RUNS)).ok()?;
        let runs = log.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Self>(line).ok());
        runs.reduce(|earlier, last| Self {
            seconds: earlier.seconds + last.seconds,
            positions: earlier.positions + last.positions,
            stages: Stages {
                forward: earlier.stages.forward + last.stages.forward,
                select: earlier.stages.select + last.stages.select,
                write: earlier.stages.write + last.stages.write,
            },
            ..last
        })
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
