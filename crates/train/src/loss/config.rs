//! What a recipe says about the loss, and what it may say over which cache.

use logitcask_core::{Curve, Divergence, Keep, TailPolicy};
use serde::{Deserialize, Serialize};

/// alpha · T² · divergence + (1 - alpha) · cross entropy on the labels; alpha and T may move during the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the soft targets, 0 (labels only) to 1 (teacher only).
    pub alpha: Curve,
    /// How teacher and student are compared.
    #[serde(default)]
    pub divergence: Divergence,
    /// Temperature of teacher and student in the soft part.
    #[serde(default = "one")]
    pub temperature: Curve,
    /// What the soft part does about classes the cache did not keep.
    #[serde(default)]
    pub tail: TailPolicy,
    /// Read only this many of the kept classes; the others join the tail, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u32>,
}

const fn one() -> Curve {
    Curve::Constant(1.0)
}

/// A loss at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLoss {
    /// Weight of the soft targets.
    pub alpha: f64,
    /// How teacher and student are compared.
    pub divergence: Divergence,
    /// Temperature of both.
    pub temperature: f64,
    /// What is done about classes the cache did not keep.
    pub tail: TailPolicy,
}

/// What of a cached row a loss reads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// With [`TailPolicy::Sampled`] classes drawn by lot as well.
    pub tail: TailPolicy,
    /// So many of the kept classes; `None`: all.
    pub classes: Option<u32>,
}

impl StepLoss {
    /// The labels alone.
    pub const LABELS: Self =
        Self { alpha: 0.0, divergence: Divergence::ForwardKl {}, temperature: 1.0, tail: TailPolicy::Bucket };

    /// The teacher alone: forward KL with a bucket at T = 1.
    pub const FORWARD_KL: Self = Self { alpha: 1.0, ..Self::LABELS };
}

impl LossConfig {
    /// Labels only.
    pub const LABELS: Self = Self {
        alpha: Curve::Constant(0.0),
        divergence: Divergence::ForwardKl {},
        temperature: Curve::Constant(1.0),
        tail: TailPolicy::Bucket,
        classes: None,
    };

    /// Is a teacher asked, at any step?
    pub fn needs_teacher(&self) -> bool {
        self.alpha.range().1 > 0.0
    }

    /// The loss when the share `done` of the run is behind.
    pub fn at(&self, done: f64) -> StepLoss {
        StepLoss {
            alpha: self.alpha.at(done),
            divergence: self.divergence,
            temperature: self.temperature.at(done),
            tail: self.tail,
        }
    }

    /// What it reads of a row, at any step.
    pub fn reading(&self) -> Reading {
        Reading { tail: self.tail, classes: self.classes }
    }

    /// Refuses what is no weight, no temperature and no divergence.
    pub fn check(&self) -> Result<(), String> {
        for (name, curve) in [("alpha", self.alpha), ("temperature", self.temperature)] {
            curve.check().map_err(|problem| format!("[loss] {name}: {problem}"))?;
        }
        let ((least, most), (lowest, _)) = (self.alpha.range(), self.temperature.range());
        if let Some(alpha) = [least, most].into_iter().find(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(format!("[loss] alpha = {alpha} is not within 0..=1"));
        }
        if self.classes == Some(0) {
            return Err("[loss] classes = 0 leaves nothing to learn from".into());
        }
        if lowest <= 0.0 {
            return Err(format!("[loss] temperature = {lowest} is not a positive number"));
        }
        let divergence = self.divergence.check().and_then(|()| self.divergence.fits(self.tail));
        divergence.map_err(|problem| format!("[loss] divergence: {problem}"))
    }

    /// Refuses what rows of this kind cannot answer.
    pub fn fits(&self, keep: &Keep) -> Result<(), String> {
        if !self.needs_teacher() {
            return Ok(());
        }
        if let Some(classes) = self.classes
            && (keep.is_dense() || keep.is_sampled())
        {
            return Err(format!(
                "[loss] classes = {classes} asks for the likeliest of the kept classes, and this cache has none ({}); \
                 leave it out",
                if keep.is_dense() { "its rows are dense" } else { "they are drawn by lot" }
            ));
        }
        if self.tail == TailPolicy::Sampled && !keep.is_sampled() {
            return Err("[loss] tail = \"sampled\" needs classes drawn by lot, and this cache has none (column \
                        `drawn_counts`); make it with [cache] selection = { kind = \"sample\", n = 32 }, or use \
                        tail = \"bucket\""
                .into());
        }
        let Some(tail) = keep.tail.filter(|_| self.tail != TailPolicy::Renormalize) else { return Ok(()) };
        let (low, high) = self.temperature.range();
        let is_outside = |t: &f64| !(tail.lowest_temperature..=tail.highest_temperature).contains(t);
        match [low, high].into_iter().find(is_outside) {
            None => Ok(()),
            Some(temperature) => Err(format!(
                "[loss] temperature = {temperature} is outside {} to {}, for which this cache's tail is right; make it again \
                 with a wider [cache] temperature_range, or use tail = \"renorm\"",
                tail.lowest_temperature, tail.highest_temperature
            )),
        }
    }
}
