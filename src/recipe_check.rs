//! What can be said about a recipe from its keys alone, before anything that it names is opened.

use crate::answers;
use crate::recipe::{CacheConfig, Recipe};
use crate::server_teacher;
use anyhow::{Context, Result, bail};
use logitcask_core::{ConfigError, TargetTransform};
use logitcask_train::mixture::check_mixed;
use logitcask_train::{LossConfig, TrainConfig};

impl Recipe {
    /// Rejects settings that are out of range or do not fit together.
    pub fn check(&self) -> Result<()> {
        self.dataset.as_ref().map_or(Ok(()), |dataset| dataset.check()).context("[dataset]")?;
        self.loss.check()?;
        answers::check(self)?;
        server_teacher::check(self)?;
        if let Some(train) = &self.train {
            train.check()?;
        }
        self.cache.check()?;
        if self.teacher.as_ref().is_some_and(|teacher| teacher.batch_tokens == 0) {
            bail!(
                "[teacher] batch_tokens = 0 is too small for any token; it bounds the number of samples of a batch times \
                 the tokens of the longest, 2048 by default"
            );
        }
        match self.dataset {
            Some(_) => self.check_teacher()?,
            None => self.check_without_texts()?,
        }
        self.check_data()?;
        // A teacher may run for hours before a student could be refused.
        let keep = self.cache.keep(ATOMS);
        let keep = self.teacher.as_ref().map_or(keep.clone(), |teacher| server_teacher::keep(teacher, keep));
        self.loss.check_against(&keep)?;
        self.train.as_ref().map_or(Ok(()), |train| check_training(train, &self.loss, self))
    }

    /// Whether there is a teacher exactly where one is needed.
    fn check_teacher(&self) -> Result<()> {
        match (&self.teacher, &self.tokenizer) {
            (None, None) => bail!("name a [teacher], or a [tokenizer] for a run on labels alone"),
            (Some(_), Some(_)) => bail!(
                "the recipe has both [tokenizer] and [teacher]; leave out [tokenizer], since the teacher's own is used"
            ),
            (Some(_), None) if self.generations.is_some() => {
                bail!("[generations] start from labels alone; replace [teacher] with [tokenizer]")
            }
            (None, Some(_)) if self.loss.needs_teacher() && self.generations.is_none() => {
                bail!("[loss] alpha > 0 needs a teacher, and there is no [teacher]; name one, or set alpha = 0")
            }
            _ => Ok(()),
        }
    }

    /// What a recipe needs that trains from a cache that exists.
    fn check_without_texts(&self) -> Result<()> {
        if self.tokenizer.is_some() || self.generations.is_some() {
            bail!("a run on labels alone needs texts: name them with [dataset] path");
        }
        if self.cache.path.is_none() {
            bail!("name the texts with [dataset] path, or a cache that exists with [cache] path");
        }
        if matches!(self.loss.target, TargetTransform::Similar { .. })
            && self.loss.needs_teacher()
            && self.teacher.is_none()
        {
            bail!(
                "[loss] target: the similarity of classes is computed from the teacher's head; name the model that made the \
                 cache with [teacher] model"
            );
        }
        Ok(())
    }

    /// The caches that are mixed in.
    fn check_data(&self) -> Result<()> {
        if let Some(data) = self.data.iter().find(|data| !(data.weight.is_finite() && data.weight > 0.0)) {
            bail!("[[data]] {}: weight = {} must be a number above 0", data.cache.display(), data.weight);
        }
        if !self.data.is_empty() && self.teacher.is_none() && self.dataset.is_some() {
            bail!("[[data]] mixes caches into the recipe's own, so the recipe needs a [teacher]");
        }
        Ok(())
    }
}

/// The number of tail atoms is chosen later; nothing that is checked depends on it.
const ATOMS: u32 = 3;

/// Rejects training that the recipe's own cache cannot serve.
fn check_training(train: &TrainConfig, loss: &LossConfig, recipe: &Recipe) -> Result<()> {
    if train.pruning.is_some() && !loss.needs_teacher() {
        bail!(
            "[train] pruning: a student that learns from labels alone ([loss] alpha = 0) uses all samples; leave it out"
        );
    }
    let window = recipe.cache.max_length;
    match recipe.data.is_empty() {
        true => check_prefix(train, window)?,
        // The windows of other caches may be longer.
        false => check_mixed(train, loss)?,
    }
    if let Some(relations) = &loss.relations {
        // Which columns there are does not depend on the teacher, only how long they are.
        relations.check_cache(train, &recipe.cache.extras(1), u32::try_from(window)?)?;
    }
    Ok(())
}

/// Rejects a prefix that is longer than the windows of the data.
pub fn check_prefix(train: &TrainConfig, window: usize) -> Result<()> {
    match train.max_length.filter(|length| *length as usize > window) {
        Some(length) => {
            bail!("[train] max_length = {length}, but the data's windows have {window} tokens at most; leave it out")
        }
        None => Ok(()),
    }
}

impl CacheConfig {
    /// Rejects values that no teacher can serve.
    fn check(&self) -> Result<()> {
        if self.max_length < 2 || self.samples_per_unit == 0 {
            bail!("[cache] max_length must be at least 2 and samples_per_unit at least 1");
        }
        self.keep(ATOMS).tail.map_or(Ok(()), |tail| tail.check()).map_err(of_range)?;
        Ok(())
    }
}

/// An error about the range of temperatures, with the key that a recipe has for it.
fn of_range(mut error: ConfigError) -> ConfigError {
    let end = usize::from(error.key != "lowest_temperature");
    error.key = format!("[cache] temperature_range[{end}]");
    error
}
