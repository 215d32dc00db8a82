//! Validation of plans.

use super::{Layout, MAX_UNITS, Plan, WorkUnit};
use crate::error::{Error, Result};
use crate::version::FORMAT_VERSION;
use crate::{companions, json, names, pack};
use logitcask_core::{ConfigError, PositionChoice, Selection};
use std::collections::BTreeSet;

/// Maximum number of samples in a unit.
const MAX_UNIT_SAMPLES: u64 = 1 << 24;
/// Maximum size of one sample's lists in bytes: Parquet's pages store sizes in 31 bits.
const MAX_ROW_BYTES: u64 = 1 << 30;

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

    fn check_units(&self) -> Result<(), ConfigError> {
        let count = self.units.len();
        let expected = format!("1 to {MAX_UNITS} units");
        ConfigError::unless((1..=MAX_UNITS).contains(&count), "units", format!("{count} units"), expected)?;
        let (mut seen, mut in_card) = (BTreeSet::new(), BTreeSet::new());
        for units in self.splits() {
            let split = &self.units[units.start].split;
            let refused = |got: &str, expected: String| Err(ConfigError::new("units", got, expected));
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
            if split.is_empty() || split.len() > 64 || !split.bytes().all(plain) {
                let got = format!("a split named `{split}`");
                return refused(&got, "of splits whose names are 1 to 64 of a-z, 0-9, _ and -".into());
            }
            if !seen.insert(split) {
                return refused(
                    &format!("split `{split}` in several pieces"),
                    "so that a split's units stand together".into(),
                );
            }
            if !in_card.insert(names::card_split(split)) {
                let got = format!("split `{split}` and another that differs from it in - and _ alone");
                let expected = "of splits that differ otherwise".into();
                return refused(&got, expected)
                    .map_err(|error| error.because("they have one name to dataset hubs: rename one"));
            }
            self.check_split(split, &self.units[units])?;
        }
        Ok(())
    }

    /// Checks the units of one split, which must be contiguous.
    fn check_split(&self, split: &str, units: &[WorkUnit]) -> Result<(), ConfigError> {
        let mut expected = 0;
        for WorkUnit { start, end, .. } in units {
            let got = format!("a unit of samples {start}..{end} in split `{split}`");
            if *start != expected || end <= start {
                return Err(ConfigError::new("units", got, format!("so that samples {expected}.. follow")));
            }
            let wanted = format!("of at most {MAX_UNIT_SAMPLES} samples each");
            ConfigError::unless(end - start <= MAX_UNIT_SAMPLES, "units", got, wanted)?;
            expected = *end;
        }
        Ok(())
    }
}
