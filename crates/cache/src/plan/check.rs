//! Validation of plans.

use super::{Layout, Plan, Split};
use crate::error::{Error, Result};
use crate::version::FORMAT_VERSION;
use crate::{companions, json, names, pack, schema};
use logitcask_core::extra_column::MAX_EXTRA_COLUMNS;
use logitcask_core::{ConfigError, PositionChoice, Selection};
use std::collections::BTreeSet;

/// Maximum number of units, hence of shards: a commit states the number of its unit in 32 bits, and a manifest of so many
/// fits the limit for JSON files.
pub const MAX_UNITS: u64 = 1 << 32;
/// Maximum number of blocks in a unit: Parquet counts the row groups of a file in 15 bits.
pub const MAX_UNIT_BLOCKS: u64 = (1 << 15) - 1;
/// Maximum number of samples in a cache, and of positions: JSON holds larger integers only approximately.
pub const MAX_SAMPLES: u64 = json::MAX_INTEGER;
/// Maximum number of splits.
pub const MAX_SPLITS: usize = 1000;
/// Maximum length of a split's name in bytes.
pub const MAX_SPLIT_NAME: usize = 64;
/// Maximum size of one sample's lists in bytes: Parquet's pages store sizes in 31 bits.
pub const MAX_ROW_BYTES: u64 = 1 << 30;

impl Plan {
    /// Rejects plans from which no cache can be made: gaps or overlaps between units, an impossible selection, names
    /// that are not valid file names, or counts beyond the format's limits.
    ///
    /// # Errors
    /// [`Error::BadPlan`] with the problem.
    pub fn check(&self) -> Result<()> {
        self.refusal().map_err(|problem| Error::BadPlan { problem })
    }

    /// [`Self::check`], without the context that the caller adds.
    pub(super) fn refusal(&self) -> Result<(), ConfigError> {
        let version = self.format_version;
        ConfigError::unless(version == FORMAT_VERSION, "format_version", version, FORMAT_VERSION.to_string())
            .map_err(|error| error.because("this build writes no other"))?;
        self.positions.check().map_err(|error| error.within("positions"))?;
        self.keep.check(self.vocab_size).map_err(|error| error.within("keep"))?;
        if self.layout == Layout::Packed {
            let (classes, limit) = (self.vocab_size, pack::MAX_VOCAB);
            let expected = format!("at most {limit} in the packed layout");
            ConfigError::unless(classes <= limit, "vocab_size", classes, expected)
                .map_err(|error| error.because("use the plain layout"))?;
        }
        ConfigError::unless(self.max_length >= 2, "max_length", self.max_length, "at least 2")
            .map_err(|error| error.because("a sample of one token has no next token"))?;
        companions::check(&self.companions)?;
        self.check_extras()?;
        self.check_numbers()?;
        self.check_units()
    }

    /// Rejects numbers that are too large for a file, or not exact in JSON.
    fn check_numbers(&self) -> Result<(), ConfigError> {
        if self.row_bytes() > MAX_ROW_BYTES {
            let (bytes, length, cap) = (self.row_bytes(), self.max_length, self.max_kept());
            return Err(ConfigError::new("max_length", length, "smaller").because(format!(
                "a sample of {length} tokens with {cap} classes each takes {bytes} bytes, {MAX_ROW_BYTES} is the limit: \
                 keep fewer classes or cut shorter samples"
            )));
        }
        let seed = if let Selection::Sample { seed, .. } = self.keep.selection { seed } else { 0 };
        let share_seed = if let PositionChoice::Share { seed, .. } = self.positions { seed } else { 0 };
        let integers =
            [("batch_tokens", self.batch_tokens), ("keep.selection.seed", seed), ("positions.seed", share_seed)];
        for (key, number) in integers {
            ConfigError::unless(number <= json::MAX_INTEGER, key, number, "at most 2^53")
                .map_err(|error| error.because("it is the largest integer that every JSON reader takes exactly"))?;
        }
        let is_exact = serde_json::from_slice::<Self>(&json::to_bytes(self)).ok().as_ref() == Some(self);
        ConfigError::unless(
            is_exact,
            "keep",
            format!("{:?}", self.keep),
            "the same once it was written as JSON and read",
        )
        .map_err(|error| error.because("give its numbers fewer digits"))
    }

    /// Rejects extra columns that a shard cannot hold beside its own.
    fn check_extras(&self) -> Result<(), ConfigError> {
        let count = self.extras.len();
        let expected = format!("at most {MAX_EXTRA_COLUMNS} columns");
        ConfigError::unless(count <= MAX_EXTRA_COLUMNS, "extras", format!("{count} columns"), expected)?;
        let mut taken: BTreeSet<&str> = schema::NAMES.into_iter().collect();
        for extra in &self.extras {
            extra.check().map_err(|error| error.within("extras"))?;
            ConfigError::unless(taken.insert(&extra.name), "extras", &extra.name, "names that no other column has")?;
        }
        Ok(())
    }

    fn check_units(&self) -> Result<(), ConfigError> {
        let count = self.splits.len();
        let expected = format!("1 to {MAX_SPLITS} splits");
        ConfigError::unless((1..=MAX_SPLITS).contains(&count), "splits", format!("{count} splits"), expected)?;
        ConfigError::unless(self.samples_per_unit > 0, "samples_per_unit", self.samples_per_unit, "at least 1")?;
        self.check_splits()?;
        let samples = self.splits.iter().map(|split| split.samples).fold(0, u64::saturating_add);
        let positions = samples.saturating_mul(u64::from(self.max_length) - 1);
        ConfigError::unless(
            positions <= MAX_SAMPLES,
            "splits",
            format!("{samples} samples"),
            format!("at most {MAX_SAMPLES} positions, of {} each", self.max_length - 1),
        )?;
        let longest = self.splits.iter().map(|split| split.samples).max().unwrap_or(0).min(self.samples_per_unit);
        let blocks = self.blocks_of(longest);
        let (per_block, per_unit) = (self.rows_per_group(), self.samples_per_unit);
        ConfigError::unless(
            blocks <= MAX_UNIT_BLOCKS,
            "samples_per_unit",
            per_unit,
            format!("at most {} for rows of this length", per_block * MAX_UNIT_BLOCKS),
        )
        .map_err(|error| error.because(format!("a shard has at most {MAX_UNIT_BLOCKS} blocks of {per_block} rows")))?;
        let units = self.splits.iter().map(|split| split.samples.div_ceil(per_unit)).fold(0, u64::saturating_add);
        let expected = format!("so that there are at most {MAX_UNITS} units");
        ConfigError::unless(units <= MAX_UNITS, "samples_per_unit", per_unit, expected)
            .map_err(|error| error.because(format!("it makes {units} units")))
    }

    /// Checks the names of the splits, and that each has samples.
    fn check_splits(&self) -> Result<(), ConfigError> {
        let (mut seen, mut in_card) = (BTreeSet::new(), BTreeSet::new());
        for Split { name, samples } in &self.splits {
            let refused = |got: String, expected: &str| Err(ConfigError::new("splits", got, expected));
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
            if name.is_empty() || name.len() > MAX_SPLIT_NAME || !name.bytes().all(plain) {
                let expected = format!("of splits whose names are 1 to {MAX_SPLIT_NAME} of a-z, 0-9, _ and -");
                return refused(format!("a split named `{name}`"), &expected);
            }
            if *samples == 0 {
                return refused(format!("split `{name}` without samples"), "of splits with at least one");
            }
            if !seen.insert(name) {
                return refused(format!("split `{name}` twice"), "of splits with different names");
            }
            if !in_card.insert(names::card_split(name)) {
                let got = format!("split `{name}` and another that differs from it in - and _ alone");
                return refused(got, "of splits that differ otherwise")
                    .map_err(|error| error.because("they have one name to dataset hubs: rename one"));
            }
        }
        Ok(())
    }
}
