//! What of a cached row a loss reads.

use crate::similarity::Similarity;
use logitcask_core::TargetTransform;
use std::sync::Arc;

/// What of a cached row a loss reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSpec {
    /// Classes drawn at random as well?
    pub include_sampled: bool,
    /// So many of the kept classes; `None`: all.
    pub classes: Option<u32>,
    /// How many classes the cache keeps whatever their probability: behind them, a class that is kept for sure in a drawn row
    /// is one of the likeliest.
    pub always_kept: usize,
    /// What is made of the row beside its label.
    pub target: TargetTransform,
    /// Must the label be one of the classes that are told one by one?
    pub label: bool,
    /// Are the row's raw logits, entropy and the like wanted?
    pub stats: bool,
    /// The temperature at which its entropy is this, within a range of temperatures.
    pub entropy: Option<(f64, (f64, f64))>,
    /// What stands in the place of the row's classes.
    pub similarity: Option<Arc<Similarity>>,
}
