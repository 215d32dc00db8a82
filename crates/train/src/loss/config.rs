//! What a recipe says about the loss.

use crate::loss::Scale;
use logitcask_core::divergence::{ForwardKl, Settings};
use logitcask_core::{Blend, Divergence, Schedule, TailPolicy, TargetTransform, TemperatureRule, TokenWeight};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// alpha · Σ factor · scale · divergence + (1 - alpha) · cross entropy on the labels. The first term stands in the table
/// itself, others under `extra_terms`; whatever is a [`Schedule`] may move during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the soft targets, 0 (labels only) to 1 (teacher only).
    pub alpha: Schedule,
    /// Multiplies the first term.
    #[serde(default = "one")]
    pub factor: Schedule,
    /// How teacher and student are compared.
    #[serde(default)]
    pub divergence: Divergence,
    /// Temperature of the soft part.
    #[serde(default = "one")]
    pub temperature: Schedule,
    /// The student's, where it is another than the teacher's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_temperature: Option<Schedule>,
    /// How temperatures depart from these while the student learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_rule: Option<TemperatureRule>,
    /// What keeps the gradient from fading as temperatures rise.
    #[serde(default)]
    pub scale: Scale,
    /// What the soft part does about classes the cache did not keep.
    #[serde(default)]
    pub tail: TailPolicy,
    /// Read only this many of the kept classes; the others join the tail, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u32>,
    /// What is made of a row beside its label.
    #[serde(default)]
    pub target: TargetTransform,
    /// How much of the soft part each position has; left out: all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_weight: Option<TokenWeight>,
    /// Further terms of the soft part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_terms: Vec<LossTerm>,
    /// Another teacher beside the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_teacher: Option<SecondTeacher>,
}

/// A second teacher: a cache of the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondTeacher {
    /// Its folder.
    pub cache: PathBuf,
    /// Its share of the soft part at each position.
    pub blend: Blend,
}

/// One comparison of teacher and student; the keys mean what they do in [`LossConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossTerm {
    /// Multiplies it.
    #[serde(default = "one")]
    pub factor: Schedule,
    /// How teacher and student are compared.
    #[serde(default)]
    pub divergence: Divergence,
    /// Temperature.
    #[serde(default = "one")]
    pub temperature: Schedule,
    /// The student's, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_temperature: Option<Schedule>,
    /// How temperatures depart from these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_rule: Option<TemperatureRule>,
    /// What keeps the gradient from fading.
    #[serde(default)]
    pub scale: Scale,
    /// What is done about classes the cache did not keep.
    #[serde(default)]
    pub tail: TailPolicy,
}

const fn one() -> Schedule {
    Schedule::Constant(1.0)
}

impl LossConfig {
    /// Labels only.
    pub const LABELS: Self = Self {
        alpha: Schedule::Constant(0.0),
        factor: one(),
        divergence: Divergence::ForwardKl(ForwardKl::DEFAULT),
        temperature: one(),
        student_temperature: None,
        temperature_rule: None,
        scale: Scale::Squared,
        tail: TailPolicy::Bucket,
        classes: None,
        target: TargetTransform::Teacher {},
        token_weight: None,
        extra_terms: Vec::new(),
        second_teacher: None,
    };

    /// Is a teacher asked, at any step?
    pub fn needs_teacher(&self) -> bool {
        self.alpha.range().1 > 0.0
    }

    /// The term that stands in the table itself.
    pub fn first_term(&self) -> LossTerm {
        let Self { factor, divergence, temperature, student_temperature, temperature_rule, scale, tail, .. } = *self;
        LossTerm { factor, divergence, temperature, student_temperature, temperature_rule, scale, tail }
    }

    /// Every term of the soft part.
    pub fn terms(&self) -> impl Iterator<Item = LossTerm> {
        [self.first_term()].into_iter().chain(self.extra_terms.iter().copied())
    }
}
