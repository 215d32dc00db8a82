//! Sources of prompts that a teacher is to answer.

use super::{ANSWER_SPLITS, DatasetConfig, Source, layout, shape};
use crate::error::Result;

impl<'a> Source<'a> {
    /// [`Source::open`], for a dataset whose prompts are to be answered.
    pub(crate) fn of_prompts(config: &'a DatasetConfig) -> Result<Self> {
        config.check()?;
        let layout = layout(config)?;
        let conversations = Some(shape::prompts(config, &layout.files)?);
        Ok(Self { config, layout, conversations })
    }

    /// The configuration with which prompts are read: their splits are named by a column `split`, if there is one and
    /// no other is named.
    pub(crate) fn prompt_config(config: &DatasetConfig) -> Result<DatasetConfig> {
        let is_named = config.split_column.is_none() && shape::first_has(&layout(config)?.files, ANSWER_SPLITS);
        let split_column = config.split_column.clone().or(is_named.then(|| ANSWER_SPLITS.to_owned()));
        Ok(DatasetConfig { split_column, generate: None, ..config.clone() })
    }
}
