//! Both forms of the positions in a batch of rows.

use super::columns::Nested;
use super::decoder::Decoder;
use super::legacy::LegacyDecoder;
use crate::source::Entry;
use arrow_array::RecordBatch;

/// The decoder of either form.
pub(super) enum Encoding {
    Compressed(Decoder),
    Legacy(LegacyDecoder),
}

/// The columns of a batch that hold positions.
pub(super) enum EncodedPositions<'a> {
    Compressed { values: Nested<'a, u8>, ids: Nested<'a, u8> },
    Legacy { ids: Nested<'a, u64>, exact: Nested<'a, f64>, coefficients: Nested<'a, f64> },
}

impl Encoding {
    /// The columns that hold positions.
    pub fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Compressed(_) => &["compressed_logprobs", "bytepacked_indices"],
            Self::Legacy(_) => &["packed_indices", "exact_values", "coeffs"],
        }
    }

    /// The columns of a batch that hold them.
    pub fn positions<'a>(&self, batch: &'a RecordBatch) -> Result<EncodedPositions<'a>, String> {
        Ok(match self {
            Self::Compressed(_) => EncodedPositions::Compressed {
                values: Nested::of(batch, "compressed_logprobs")?,
                ids: Nested::of(batch, "bytepacked_indices")?,
            },
            Self::Legacy(_) => EncodedPositions::Legacy {
                ids: Nested::of(batch, "packed_indices")?,
                exact: Nested::of(batch, "exact_values")?,
                coefficients: Nested::of(batch, "coeffs")?,
            },
        })
    }
}

impl EncodedPositions<'_> {
    /// Number of positions of a row of the batch.
    pub fn count(&self, row: usize) -> Result<usize, String> {
        let counts = match self {
            Self::Compressed { values, ids } => vec![values.positions(row), ids.positions(row)],
            Self::Legacy { ids, exact, coefficients } => {
                vec![ids.positions(row), exact.positions(row), coefficients.positions(row)]
            }
        };
        match counts.iter().all(|count| *count == counts[0]) {
            true => Ok(counts[0]),
            false => Err(format!("its columns hold {counts:?} positions, the same number belongs in each")),
        }
    }

    /// The classes of a position of a row.
    pub fn decode(&self, encoding: &Encoding, row: usize, index: usize) -> Result<Vec<Entry>, String> {
        match (self, encoding) {
            (Self::Compressed { values, ids }, Encoding::Compressed(decoder)) => {
                decoder.position(values.position(row, index), ids.position(row, index))
            }
            (Self::Legacy { ids, exact, coefficients }, Encoding::Legacy(decoder)) => decoder.position(
                ids.position(row, index),
                exact.position(row, index),
                coefficients.position(row, index),
            ),
            _ => Err("its columns are of the other form".to_owned()),
        }
    }
}
