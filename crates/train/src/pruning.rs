//! Gradual removal of samples during a run.
//!
//! The run's samples form one long sequence; a stage is a section of it with its own set of samples, a few epochs long.
//! The samples of the next stage are determined once every step that lies entirely within the previous stage is done.
//! The loader, which reads ahead, therefore knows them when it reaches the stage, and a resumed run decides the same.

use crate::batch::Batch;
use crate::{Error, Result};
use logitcask_cache::CacheReader;
use logitcask_core::pruning::SampleScores;
use logitcask_core::temperature::{RequiredStats, Stat, TokenStats};
use logitcask_core::{ConfigError, SamplePruning};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tracing::info;

/// A section of the sequence of samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    /// Number of the stage, from 0.
    pub(crate) number: u32,
    /// Number of samples before it.
    pub(crate) start: u64,
    /// Ids of its samples, ascending; each occurs once per epoch.
    pub(crate) kept: Vec<u64>,
    /// Where it ends; the last stage never ends.
    pub(crate) end: Option<u64>,
}

/// Decides which samples remain.
pub(crate) struct Pruner {
    rule: SamplePruning,
    values: SampleScores,
    groups: Vec<Range<u64>>,
    /// The groups of the current stage, and of the next one once that is decided.
    staying: Vec<usize>,
    next: Option<Vec<usize>>,
    number: u32,
    start: u64,
    to_loader: Option<SyncSender<Stage>>,
}

impl Pruner {
    /// The statistics that it requests.
    pub(crate) const NEEDS: RequiredStats = RequiredStats::of(&[Stat::StudentEntropy]);

    /// Creates the state at the start of a run over the cache's train split, with `batch_size` samples per step.
    pub(crate) fn new(rule: SamplePruning, cache: &CacheReader, batch_size: usize) -> Result<Self> {
        let groups = cache.groups("train")?;
        let least = rule.count(cache.len("train")?, rule.stages) * u64::from(rule.every);
        if least < batch_size as u64 {
            let reason = format!("the last stage of pruning has {least} samples, fewer than a step");
            let error = ConfigError::new("[train] batch_size", batch_size, format!("at most {least}"));
            return Err(Error::Refused(error.because(reason)));
        }
        Ok(Self {
            rule,
            values: SampleScores::new(cache.len("train")?),
            staying: (0..groups.len()).collect(),
            groups,
            next: None,
            number: 0,
            start: 0,
            to_loader: None,
        })
    }

    /// Returns the known stages, and a channel for later ones.
    pub(crate) fn stages(&mut self) -> (Vec<Stage>, Receiver<Stage>) {
        let (sender, receiver) = sync_channel(1);
        self.to_loader = Some(sender);
        let now = self.stage(self.number, self.start, &self.staying);
        let next = self.next.as_ref().zip(now.end).map(|(next, end)| self.stage(self.number + 1, end, next));
        ([now].into_iter().chain(next).collect(), receiver)
    }

    fn stage(&self, number: u32, start: u64, staying: &[usize]) -> Stage {
        let kept: Vec<u64> = staying.iter().flat_map(|&i| self.groups[i].clone()).collect();
        let length = u64::from(self.rule.every) * kept.len() as u64;
        let end = (number < self.rule.stages).then_some(start + length);
        Stage { number, start, kept, end }
    }

    /// Records the student's statistics on the samples of a part of a step.
    pub(crate) fn see(&mut self, batch: &Batch, positions: &[TokenStats]) {
        let row = |at: &u32| batch.sequences.index_of(*at as usize);
        let mut rest = positions;
        for run in batch.positions.chunk_by(|a, b| row(a) == row(b)) {
            let (of_sample, others) = rest.split_at(run.len());
            rest = others;
            let sum: f64 = of_sample.iter().map(|p| p.student.entropy).sum();
            if let Some(sample) = run.first().map(|at| batch.sample_ids[row(at)]) {
                self.values.see(sample, sum / run.len() as f64);
            }
        }
    }

    /// Decides the next stage if it is due after `done` samples, with `batch_size` samples per step.
    pub(crate) fn decide(&mut self, done: u64, batch_size: u64) {
        let Some(end) = self.stage(self.number, self.start, &self.staying).end else { return };
        if self.next.is_none() && done + batch_size > end {
            let number = self.number + 1;
            let next = self.rule.staying(&self.values, &self.groups, &self.staying, number);
            info!(stage = number, groups = next.len(), of = self.groups.len(), samples_seen = done, "samples pruned");
            if let Some(loader) = &self.to_loader {
                // A closed channel means that the run is over.
                let _ = loader.send(self.stage(number, end, &next));
            }
            self.next = Some(next);
        }
        if done >= end
            && let Some(next) = self.next.take()
        {
            (self.staying, self.number, self.start) = (next, self.number + 1, end);
            self.decide(done, batch_size);
        }
    }

    /// Share of the samples that the current stage reads.
    pub(crate) fn share(&self) -> f64 {
        let count = |groups: &mut dyn Iterator<Item = &Range<u64>>| groups.map(|g| g.end - g.start).sum::<u64>() as f64;
        count(&mut self.staying.iter().map(|&i| &self.groups[i])) / count(&mut self.groups.iter())
    }

    /// The complete state, to be stored in a checkpoint.
    pub(crate) fn state(&self) -> Vec<f64> {
        let list = |groups: &[usize]| groups.iter().map(|&i| i as f64).collect::<Vec<_>>();
        let next = self.next.as_ref().map_or(vec![-1.0], |next| list(next));
        let head = [f64::from(self.number), self.start as f64, self.staying.len() as f64];
        [head.to_vec(), list(&self.staying), self.values.state(), next].concat()
    }

    /// Restores the state; returns `false` if it belongs to another cache.
    pub(crate) fn restore(&mut self, state: &[f64]) -> bool {
        let [number, start, staying, rest @ ..] = state else { return false };
        let (count, values) = (*staying as usize, self.values.state().len());
        let Some((staying, rest)) = rest.split_at_checked(count) else { return false };
        let Some((values, next)) = rest.split_at_checked(values) else { return false };
        let list = |groups: &[f64]| groups.iter().map(|&i| i as usize).collect::<Vec<_>>();
        let is_known = list(staying).iter().chain(&list(next)).all(|i| *i < self.groups.len());
        (self.number, self.start, self.staying) = (*number as u32, *start as u64, list(staying));
        self.next = (next != [-1.0]).then(|| list(next));
        is_known && self.values.restore(values)
    }
}
