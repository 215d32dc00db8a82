//! Selection of the parts of a cached row that a loss reads.

use crate::similarity::Similarity;
use logitcask_core::TargetTransform;
use std::sync::Arc;

/// The parts of a cached row that a loss reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSpec {
    /// Whether sampled classes are included.
    pub include_sampled: bool,
    /// Number of kept classes to use; `None` means all.
    pub classes: Option<u32>,
    /// How the row is edited, given its label.
    pub target: TargetTransform,
    /// Whether the label must be one of the individual classes.
    pub label: bool,
    /// Whether statistics such as raw logits and entropy are needed.
    pub stats: bool,
    /// The target entropy, and the range of temperatures in which to find the temperature that gives it.
    pub entropy: Option<(f64, (f64, f64))>,
    /// Similarities that replace the row's classes.
    pub similarity: Option<Arc<Similarity>>,
}
