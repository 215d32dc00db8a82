//! All a run needs to go on: weights, optimizer moments, and how far it came. Everything else (order of the data,
//! learning rate, every random draw) is a function of seed and step.

use crate::{Error, Result};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use logitcask_model::Llama;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Checkpoints that stay: the newest, and one to fall back on.
const KEPT: usize = 2;

/// How far a run came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimizer steps done; with the batch size it is the place in the data.
    pub step: u64,
    /// Lowest validation perplexity so far.
    pub best: Option<f64>,
    /// Evaluations since then.
    pub stale: u32,
    /// Wall seconds of all the calls it took.
    pub seconds: f64,
    /// Did the run end, by its last step or for lack of improvement?
    pub finished: bool,
}

/// The checkpoints of a run.
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those under `run`.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join("checkpoints") }
    }

    /// Folder of the newest one.
    pub fn newest(&self) -> Result<Option<PathBuf>> {
        Ok(self.all()?.pop())
    }

    /// Complete checkpoints, oldest first: they get their name last, so a name means it is whole.
    fn all(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&self.folder, "list")(e)),
        };
        let is_checkpoint = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step-"));
        let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(is_checkpoint).collect();
        found.sort();
        Ok(found)
    }

    /// Writes one and removes the oldest beyond two.
    pub fn save(&self, model: &Llama, optimizer: &ModuleOptimizer, state: &State) -> Result<()> {
        let work = self.folder.join(".work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).map_err(Error::io(&work, "create"))?;
        let refuse = |e: &dyn std::fmt::Display| Error::Checkpoint { path: work.clone(), problem: e.to_string() };
        model.clone().into_record().save(work.join("model.bpk")).map_err(|e| refuse(&e))?;
        optimizer.save(work.join("optimizer.bpk")).map_err(|e| refuse(&e))?;
        let json = serde_json::to_vec_pretty(state).map_err(|e| refuse(&e))?;
        fs::write(work.join("state.json"), json).map_err(Error::io(&work, "write"))?;
        for name in ["model.bpk", "optimizer.bpk", "state.json"] {
            let path = work.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path, "sync"))?;
        }
        let place = self.folder.join(format!("step-{:08}", state.step));
        let _ = fs::remove_dir_all(&place);
        fs::rename(&work, &place).map_err(Error::io(&place, "publish"))?;
        let all = self.all()?;
        for old in &all[..all.len().saturating_sub(KEPT)] {
            fs::remove_dir_all(old).map_err(Error::io(old, "remove"))?;
        }
        Ok(())
    }

    /// Loads the newest one into a model and an optimizer of the same shape; `None` where there is none.
    pub fn load(&self, model: Llama, optimizer: ModuleOptimizer) -> Result<(Llama, ModuleOptimizer, State)> {
        let Some(path) = self.newest()? else { return Ok((model, optimizer, State::default())) };
        let refuse = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.clone(), problem: e.to_string() };
        let model = model.try_load_file(path.join("model.bpk")).map_err(|e| refuse(&e))?;
        let optimizer = optimizer.load(path.join("optimizer.bpk")).map_err(|e| refuse(&e))?;
        let json = fs::read(path.join("state.json")).map_err(Error::io(&path, "read"))?;
        let state = serde_json::from_slice(&json).map_err(|e| refuse(&e))?;
        Ok((model, optimizer, state))
    }

    /// How far the newest one came, without reading its tensors.
    pub fn state(&self) -> Result<State> {
        let Some(path) = self.newest()? else { return Ok(State::default()) };
        let json = fs::read(path.join("state.json")).map_err(Error::io(&path, "read"))?;
        serde_json::from_slice(&json).map_err(|e| Error::Checkpoint { path, problem: e.to_string() })
    }
}
