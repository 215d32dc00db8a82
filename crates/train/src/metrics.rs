//! metrics.jsonl: one line per step, and one for each evaluation during the run.

use crate::{Error, Evaluation, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Metrics of one step; means are over its positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// The loss that was minimised.
    pub loss: f64,
    /// The divergence of the first term without factor, scale and weights, if it was part of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// The divergences of the other terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<f64>,
    /// Cross entropy on the labels, if it was part of the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// The loss on the relations between samples, if it was part of the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relations: Option<f64>,
    /// The step's weight of the soft targets.
    pub alpha: f64,
    /// The teacher's temperature in the first term, if a teacher was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Share of the positions with a nonzero weight in the soft loss, if a rule weights them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<f64>,
    /// Share of the samples that the run still reads, if it prunes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<f64>,
    /// Number of samples from each source, if there are several: the recipe's own cache, then those of `[[data]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples_per_source: Vec<u64>,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Number of positions that the means are over.
    pub positions: u64,
}

/// An evaluation during the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// Number of steps before the evaluation.
    pub step: u64,
    /// Results on the validation split.
    pub validation: Evaluation,
}

/// Appends lines to metrics.jsonl.
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the log of a run that has done `steps` steps. Lines of later steps, written by a killed run after its last
    /// checkpoint, are removed.
    ///
    /// # Errors
    /// [`Error::Io`] if the log cannot be read or cut.
    pub fn open(path: &Path, steps: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
        }
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(Error::io(path, "open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
        // Steps never decrease in a log, so the kept lines are a prefix, which is not rewritten.
        // A line that is damaged is none, and those behind it go with it.
        let is_kept = |line: &&[u8]| serde_json::from_slice::<Line>(line).is_ok_and(|line| line.step <= steps);
        let kept: usize = bytes.split_inclusive(|&byte| byte == b'\n').take_while(is_kept).map(<[u8]>::len).sum();
        file.set_len(kept as u64).map_err(Error::io(path, "write"))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path, "write"))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`Error::Io`] if the line cannot be written.
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut json = serde_json::to_string(line).map_err(|e| Error::io(&self.path, "write")(e.into()))?;
        json.push('\n');
        self.file.write_all(json.as_bytes()).map_err(Error::io(&self.path, "write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A power failure can leave anything behind the last line that was synchronised.
    #[test]
    fn a_damaged_end_of_the_log_does_not_keep_a_run_from_resuming() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let whole = "{\"step\":1}\n{\"step\":2}\n";
        for damage in [&b""[..], b"{\"step\":3}\n", b"\xff\xfe\n{\"step\":2}\n", b"\0\0\0", b"{\"st"] {
            fs::write(&path, [whole.as_bytes(), damage].concat()).unwrap();
            drop(MetricsLog::open(&path, 2).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{damage:?}");
        }
    }
}
