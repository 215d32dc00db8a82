//! The loss section of a recipe.

use crate::loss::{Relations, Scale};
use logitcask_core::divergence::{ForwardKl, Settings};
use logitcask_core::{Blend, Divergence, Schedule, TailPolicy, TargetTransform, TemperatureRule, TokenWeight};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// alpha · Σ factor · scale · divergence + (1 - alpha) · cross entropy on the labels. The first term's keys are in the
/// table itself, those of others under `extra_terms`; every [`Schedule`] may change during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the soft targets, 0 (labels only) to 1 (teacher only).
    pub alpha: Schedule,
    /// Factor of the first term.
    #[serde(default = "one")]
    pub factor: Schedule,
    /// The divergence between teacher and student.
    #[serde(default)]
    pub divergence: Divergence,
    /// Temperature of the soft loss.
    #[serde(default = "one")]
    pub temperature: Schedule,
    /// The student's temperature, if it differs from the teacher's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_temperature: Option<Schedule>,
    /// Rule by which temperatures deviate from these during training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_rule: Option<TemperatureRule>,
    /// Scale that keeps the gradient from fading as temperatures rise.
    #[serde(default)]
    pub scale: Scale,
    /// How the soft loss treats classes that were not cached.
    #[serde(default)]
    pub tail: TailPolicy,
    /// Number of kept classes to use; the others are moved to the tail exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u32>,
    /// How a row is edited, given its label.
    #[serde(default)]
    pub target: TargetTransform,
    /// Weights of the positions in the soft loss; all are equal if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_weight: Option<TokenWeight>,
    /// Further terms of the soft loss.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_terms: Vec<LossTerm>,
    /// A second teacher in addition to the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_teacher: Option<SecondTeacher>,
    /// A further loss on the relations between the samples of a batch, added to the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relations: Option<Relations>,
}

/// A second teacher: a cache of the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondTeacher {
    /// Its folder.
    pub cache: PathBuf,
    /// Its share of the soft loss at each position.
    pub blend: Blend,
}

/// One term of the soft loss; the keys have the same meaning as in [`LossConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossTerm {
    /// Factor of the term.
    #[serde(default = "one")]
    pub factor: Schedule,
    /// The divergence between teacher and student.
    #[serde(default)]
    pub divergence: Divergence,
    /// Temperature of teacher and student.
    #[serde(default = "one")]
    pub temperature: Schedule,
    /// The student's temperature, if it differs from the teacher's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_temperature: Option<Schedule>,
    /// Rule by which temperatures deviate from these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_rule: Option<TemperatureRule>,
    /// Scale that keeps the gradient from fading.
    #[serde(default)]
    pub scale: Scale,
    /// How classes that were not cached are treated.
    #[serde(default)]
    pub tail: TailPolicy,
}

const fn one() -> Schedule {
    Schedule::Constant(1.0)
}

impl LossConfig {
    /// The loss on labels only.
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
        relations: None,
    };

    /// Whether a teacher is needed at any step.
    pub fn needs_teacher(&self) -> bool {
        self.alpha.range().1 > 0.0 || self.relations.is_some()
    }

    /// The term whose keys are in the table itself.
    pub fn first_term(&self) -> LossTerm {
        let Self { factor, divergence, temperature, student_temperature, temperature_rule, scale, tail, .. } = *self;
        LossTerm { factor, divergence, temperature, student_temperature, temperature_rule, scale, tail }
    }

    /// All terms of the soft loss.
    pub fn terms(&self) -> impl Iterator<Item = LossTerm> {
        [self.first_term()].into_iter().chain(self.extra_terms.iter().copied())
    }
}
