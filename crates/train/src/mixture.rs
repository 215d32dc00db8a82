//! Several sources in one run.

use crate::source::{Source, check_same};
use crate::{LossConfig, Result, TrainConfig};
use logitcask_cache::CacheReader;
use logitcask_core::ConfigError;

/// A source, and its share of a run's samples relative to the others.
#[derive(Clone)]
pub struct WeightedSource {
    /// Where the samples come from.
    pub source: Source,
    /// Above 0 and finite; the shares are the weights over their sum.
    pub weight: f64,
}

impl WeightedSource {
    /// The sources of a run, of which `first` has the weight 1.
    pub fn all(first: &Source, others: &[Self]) -> Vec<Self> {
        let first = Self { source: first.clone(), weight: 1.0 };
        [first].into_iter().chain(others.iter().cloned()).collect()
    }

    /// A cache whose samples can be mixed with those of `first`.
    ///
    /// # Errors
    /// [`Error::CachesDiffer`](crate::Error::CachesDiffer) if their classes or tokenizers differ, since a token would mean
    /// something else.
    pub fn mixed_with(first: &CacheReader, cache: CacheReader, weight: f64) -> Result<Self> {
        let (a, b) = (first.plan(), cache.plan());
        let properties = [
            ("number of classes", a.vocab_size.to_string(), b.vocab_size.to_string()),
            ("tokenizer", a.tokenizer.fingerprint.short(), b.tokenizer.fingerprint.short()),
        ];
        check_same((first, &cache), properties, "caches can only be mixed if they have the same tokens")?;
        Ok(Self { source: Source::Cache(cache), weight })
    }
}

/// Refuses a loss that the sources of a run do not have the rows or vectors for, and what a mixture of several cannot be
/// trained with. The first is the recipe's own.
///
/// # Errors
/// Names the key of the recipe, its value and what is accepted.
pub fn check_sources(
    config: &TrainConfig,
    loss: &LossConfig,
    sources: &[WeightedSource],
) -> std::result::Result<(), ConfigError> {
    sources.iter().try_for_each(|one| one.source.check(loss))?;
    if let Some(relations) = &loss.relations {
        relations.check_run(config, sources)?;
    }
    if sources.len() == 1 {
        return Ok(());
    }
    check_mixed(config, loss)?;
    let is_weight = |one: &&WeightedSource| one.weight.is_finite() && one.weight > 0.0;
    match sources.iter().find(|one| !is_weight(one)) {
        Some(one) => Err(ConfigError::new("[[data]] weight", one.weight, "a number above 0")),
        None => Ok(()),
    }
}

/// Refuses what a mixture of several caches cannot be trained with, whichever they are.
///
/// # Errors
/// Names the key of the recipe, its value and what is accepted.
pub fn check_mixed(config: &TrainConfig, loss: &LossConfig) -> std::result::Result<(), ConfigError> {
    let refused = |key, got: &str, reason| Err(ConfigError::new(key, got, "left out with [[data]]").because(reason));
    if config.pruning.is_some() {
        return refused("[train] pruning", "a rule", "it chooses among the samples of a single cache");
    }
    if loss.second_teacher.is_some() {
        return refused("[loss] second_teacher", "a cache", "it has no rows for the samples of other caches");
    }
    Ok(())
}
