//! Machine-readable figures of a cache, of the time it took, and of a training run.

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
    /// Number of kept classes, summed over all positions.
    pub entries: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Bytes of all shards per position, including inputs and metadata.
    pub bytes_per_position: f64,
    /// The same per kept class.
    pub bytes_per_entry: f64,
    /// Mean probability at T = 1 of the kept classes.
    pub kept_mass: f64,
    /// Rounding error of the kept log-probabilities, in nats.
    pub codec_error: CodecError,
    /// Error of log Z at each measured temperature, in nats.
    pub log_z_error: Vec<LogZError>,
}

impl CacheFigures {
    /// The figures of the cache with this manifest.
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

    /// Id, number of positions, bytes and kept mass in one line.
    pub fn line(&self) -> String {
        format!(
            "cache id {}, {} positions, {:.1} bytes per position ({:.2} per kept class), mean kept mass {:.4}",
            self.cache_id.short(),
            self.positions,
            self.bytes_per_position,
            self.bytes_per_entry,
            self.kept_mass,
        )
    }
}

/// Busy time of the parts of stage 1, in seconds.
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

/// One call of stage 1, or the sum of all calls for a cache. It is not part of the cache's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CacheRun {
    /// Wall time in seconds, including loading and planning.
    pub seconds: f64,
    /// Number of positions that the teacher computed.
    pub positions: u64,
    /// Name of the device, of the last call.
    pub device: String,
    /// Path of the recipe, of the last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Busy time of each part.
    pub stages: Stages,
}

/// Name of the log, which has one line per call.
const CACHE_RUNS: &str = "_runs.jsonl";

impl CacheRun {
    /// Appends it to the log in the cache's folder.
    pub fn add_to(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CACHE_RUNS);
        // A line feed first, since a killed run may have left an incomplete line.
        let line = format!("\n{}\n", serde_json::to_string(self)?);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        // In a single write, since several workers may append at the same time.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("{}: cannot append to it", path.display()))
    }

    /// The sum of all calls in the log; `None` if there are none. Incomplete lines of killed runs are skipped.
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

/// The content of a run's summary.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Evaluation of the model that the student starts as, if it starts from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Evaluation>,
    /// Evaluation of the student.
    pub student: Evaluation,
    /// Evaluation of the control, if one was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Evaluation>,
    /// Figures of the cache, if the student learned from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFigures>,
    /// Wall time of each stage.
    pub seconds: Seconds,
}

impl Summary {
    /// Reads the summary of the run in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let json = std::fs::read(&path).with_context(|| format!("{}: cannot read it", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("{}: damaged", path.display()))
    }

    /// Writes it into the run's `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(SUMMARY), self)
    }
}

const SUMMARY: &str = "summary.json";

/// Wall time of each stage in seconds, over all calls.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seconds {
    /// Stage 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<f64>,
    /// Training of the student.
    pub student: f64,
    /// Training of the control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<f64>,
    /// Evaluation, of the last call alone.
    pub eval: f64,
}

/// Writes indented JSON and a newline; a reader sees either the old file or the new one.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    replace_file(path, &json)
}
