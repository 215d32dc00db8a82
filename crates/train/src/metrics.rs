//! metrics.jsonl: one line a step, and one for each evaluation on the way.

use crate::{Error, Evaluation, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What happened in one step; means over its positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Counted from 1.
    pub step: u64,
    /// What was minimised.
    pub loss: f64,
    /// The divergence of the first term without factor, scale and weights, where it was part of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// Those of the other terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<f64>,
    /// Cross entropy on the labels, where it was part of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// The step's weight of the soft targets.
    pub alpha: f64,
    /// The teacher's temperature in the first term, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Share of the positions that have a weight in the soft part, where a rule weighs them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<f64>,
    /// Share of the samples that the run still reads, where it prunes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<f64>,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Positions the means are over.
    pub positions: u64,
}

/// An evaluation on the way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// After this many steps.
    pub step: u64,
    /// On the validation split.
    pub validation: Evaluation,
}

/// Appends lines to metrics.jsonl.
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the log of a run that has `steps` steps behind it; lines of later steps, written after the last checkpoint
    /// of a run that was killed, are dropped.
    pub fn open(path: &Path, steps: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
        }
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(Error::io(path, "open"))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(Error::io(path, "read"))?;
        // Steps never go back in a log, so what is kept is a prefix; nothing of it is written again.
        let is_kept = |line: &&str| serde_json::from_str::<Line>(line).is_ok_and(|line| line.step <= steps);
        let kept: usize = text.split_inclusive('\n').take_while(is_kept).map(str::len).sum();
        file.set_len(kept as u64).map_err(Error::io(path, "write"))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path, "write"))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line.
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut json = serde_json::to_string(line).map_err(|e| Error::Config(e.to_string()))?;
        json.push('\n');
        self.file.write_all(json.as_bytes()).map_err(Error::io(&self.path, "write"))
    }
}
