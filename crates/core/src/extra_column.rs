//! Columns of a cache beside the logits: other numbers that the teacher computes for each sample.

use crate::ConfigError;
use half::f16;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of a column in bytes.
pub const MAX_COLUMN_NAME: usize = 64;
/// Most numbers of a position, or of a sample.
pub const MAX_COLUMN_SIZE: u32 = 1 << 16;
/// Most columns of a cache.
pub const MAX_EXTRA_COLUMNS: usize = 16;

/// A column beside the logits, as a plan pins it: what the teacher computes, and how it is stored.
///
/// # Examples
/// ```
/// use logitcask_core::{ExtraColumn, HiddenPositions};
///
/// let column: ExtraColumn = serde_json::from_str(
///     r#"{"name": "embedding", "from": {"kind": "hidden", "positions": "mean"}, "size": 3}"#,
/// )?;
/// assert_eq!(column.from.positions(), HiddenPositions::Mean);
/// // One vector for each sample, whatever the number of its positions.
/// assert_eq!(column.len(255), 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraColumn {
    /// Name of the column in a shard: up to [`MAX_COLUMN_NAME`] of a-z, 0-9 and _, beginning with a letter.
    pub name: String,
    /// What the teacher computes.
    pub from: ExtraSource,
    /// Precision of the stored numbers.
    #[serde(default, skip_serializing_if = "ColumnPrecision::is_f16")]
    pub precision: ColumnPrecision,
    /// Numbers of a position, or of a sample if it has one vector.
    pub size: u32,
}

/// What a teacher computes for a column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExtraSource {
    /// The last hidden state, after the final norm: the vector whose product with the head is the logits.
    Hidden {
        /// At which positions.
        #[serde(default)]
        positions: HiddenPositions,
        /// How the vector is shortened; not at all by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<Projection>,
    },
}

/// The positions whose hidden states are stored. A cached position is one whose logits are in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenPositions {
    /// Every cached position, each with its own vector.
    #[default]
    All,
    /// The last cached position of a sample: one vector for the sample.
    Last,
    /// The mean over a sample's cached positions: one vector for the sample.
    Mean,
}

/// A map of vectors to shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Projection {
    /// The product with a matrix of independent normal numbers of variance 1 / `size`, which keeps distances and angles
    /// between vectors approximately (Johnson and Lindenstrauss 1984).
    Random {
        /// Length of the shorter vectors.
        size: u32,
        /// Seed of the matrix.
        #[serde(default)]
        seed: u64,
    },
}

/// Precision of a column's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnPrecision {
    /// Rounded to the nearest f16, ties to even.
    #[default]
    F16,
    /// As the teacher computed them in f32.
    F32,
}

/// The numbers of one column for one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExtraValues {
    /// Numbers of each position; 0 if there is one vector for the sample.
    pub per_position: usize,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
}

impl ExtraSource {
    /// At which positions it is computed.
    pub fn positions(self) -> HiddenPositions {
        let Self::Hidden { positions, .. } = self;
        positions
    }

    /// Numbers of a vector, for a teacher whose hidden states have `hidden_size`.
    pub fn size(self, hidden_size: usize) -> u32 {
        let Self::Hidden { project, .. } = self;
        project.map_or(hidden_size as u32, |Projection::Random { size, .. }| size)
    }
}

impl HiddenPositions {
    /// Whether each position has its own vector, rather than each sample.
    pub fn is_per_position(self) -> bool {
        self == Self::All
    }

    /// The name in plans and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Last => "last",
            Self::Mean => "mean",
        }
    }
}

impl ColumnPrecision {
    fn is_f16(&self) -> bool {
        *self == Self::F16
    }

    /// The nearest number that can be stored; infinite beyond the largest one.
    pub fn round(self, number: f32) -> f32 {
        match self {
            Self::F32 => number,
            Self::F16 => f16::from_f32(number).to_f32(),
        }
    }

    /// The name in plans and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

impl ExtraColumn {
    /// Numbers of each position; 0 if there is one vector for the sample.
    pub fn per_position(&self) -> usize {
        if self.from.positions().is_per_position() { self.size as usize } else { 0 }
    }

    /// Numbers of a sample with so many cached positions.
    pub fn len(&self, positions: usize) -> usize {
        self.size as usize * if self.from.positions().is_per_position() { positions } else { 1 }
    }

    /// Rejects names that are no column names, and sizes that are not those of the source.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { name, from, size, .. } = self;
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        let fits = name.len() <= MAX_COLUMN_NAME && name.starts_with(|c: char| c.is_ascii_lowercase());
        let expected = format!("1 to {MAX_COLUMN_NAME} of a-z, 0-9 and _, beginning with a letter");
        ConfigError::unless(fits && name.bytes().all(plain), "name", name, expected)?;
        let expected = format!("1 to {MAX_COLUMN_SIZE}");
        ConfigError::unless((1..=MAX_COLUMN_SIZE).contains(size), "size", size, expected)?;
        let ExtraSource::Hidden { project, .. } = from;
        match project {
            Some(Projection::Random { size: projected, .. }) => {
                ConfigError::unless(projected == size, "project.size", projected, format!("size = {size}"))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExtraColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from: ExtraSource::Hidden { positions, project }, precision, size } = self;
        write!(f, "{name} (hidden states, {}, {size} {}", positions.name(), precision.name())?;
        match project {
            Some(Projection::Random { seed, .. }) => write!(f, ", random projection of seed {seed})"),
            None => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, size: u32, project: Option<Projection>) -> ExtraColumn {
        let from = ExtraSource::Hidden { positions: HiddenPositions::All, project };
        ExtraColumn { name: name.to_owned(), from, precision: ColumnPrecision::F16, size }
    }

    #[test]
    fn bad_columns_are_refused_by_the_key() {
        let random = |size| Some(Projection::Random { size, seed: 0 });
        for (column, key) in [
            (column("", 4, None), "name"),
            (column("Hidden", 4, None), "name"),
            (column("4th", 4, None), "name"),
            (column(&"a".repeat(65), 4, None), "name"),
            (column("hidden", 0, None), "size"),
            (column("hidden", 1 << 17, None), "size"),
            (column("hidden", 4, random(5)), "project.size"),
        ] {
            let error = column.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        column("hidden_2", 4, random(4)).check().unwrap();
    }

    #[test]
    fn a_plan_spells_no_defaults_out() {
        let json = serde_json::to_string(&column("hidden", 4, None)).unwrap();
        assert_eq!(json, r#"{"name":"hidden","from":{"kind":"hidden","positions":"all"},"size":4}"#);
    }
}
