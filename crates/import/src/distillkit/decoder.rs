//! From the bytes of a position to classes and log-probabilities.
//!
//! The values come first: `exact_k` numbers, the coefficients of the curve, and for each residual bin its scale and its
//! codes. A value beyond the exact ones is sum_j coefficient_j term_j(t) + scale (code - 2^(bits - 1)), where t is its
//! place counted from 0, divided by the last place if `normalize_t`. With `delta_encoding`, running sums of all these
//! are the log-probabilities. Computed in f64; DistillKit computes the curve in the coefficients' format.

use super::bits::{packed_bytes, unpack};
use super::settings::{Compression, NumberFormat, id_bits};
use crate::source::Entry;

/// Decodes positions of one file.
pub(super) struct Decoder {
    settings: Compression,
    /// The terms at every place of the curve, place after place.
    curve: Vec<f64>,
    value_bytes: usize,
    id_bytes: usize,
}

impl Decoder {
    pub fn new(settings: &Compression) -> Self {
        let (k, exact, terms) = (settings.k as usize, settings.exact_k as usize, settings.terms());
        let places = k - exact;
        let scale = if settings.normalize_t { places.saturating_sub(1).max(1) as f64 } else { 1.0 };
        let at = |place: usize| terms.iter().map(move |term| term.at(place as f64 / scale));
        let bins = settings.residual_bins.iter();
        let of_bins =
            bins.map(|bin| bin.scale_dtype.bytes() + packed_bytes(bin.num_elements as usize, bin.element_bits));
        Self {
            curve: (0..places).flat_map(at).collect(),
            value_bytes: exact * settings.exact_dtype.bytes()
                + terms.len() * settings.term_dtype.bytes()
                + of_bins.sum::<usize>(),
            id_bytes: packed_bytes(k, id_bits(settings.d)),
            settings: settings.clone(),
        }
    }

    /// The classes of a position, in the order in which they are stored.
    pub fn position(&self, values: &[u8], ids: &[u8]) -> Result<Vec<Entry>, String> {
        let of_length = |column: &str, bytes: &[u8], expected: usize| match bytes.len() {
            length if length == expected => Ok(()),
            length => Err(format!(
                "`{column}` has {length} bytes, but the settings make {expected}: they are those of other files, or \
                 the position is cut off"
            )),
        };
        of_length("compressed_logprobs", values, self.value_bytes)?;
        of_length("bytepacked_indices", ids, self.id_bytes)?;
        let bits = id_bits(self.settings.d);
        let ids = unpack(ids, bits, self.settings.k as usize).ok_or_else(|| {
            format!("`bytepacked_indices` has bits after the last id of {bits} bits: d and k are those of other files")
        })?;
        let entry = |(id, log_prob)| Entry { id, log_prob };
        Ok(ids.into_iter().zip(self.log_probs(values)?).map(entry).collect())
    }

    /// The log-probabilities, from exactly the bytes that they take.
    fn log_probs(&self, bytes: &[u8]) -> Result<Vec<f64>, String> {
        let Compression { exact_k, exact_dtype, term_dtype, residual_bins, delta_encoding, .. } = &self.settings;
        let terms = self.settings.terms().len();
        let mut bytes = Bytes(bytes);
        let mut values = bytes.numbers(*exact_dtype, *exact_k as usize);
        let coefficients = bytes.numbers(*term_dtype, terms);
        let on_curve = |place: usize| {
            let terms = &self.curve[place * terms..(place + 1) * terms];
            terms.iter().zip(&coefficients).map(|(term, coefficient)| term * coefficient).sum::<f64>()
        };
        values.extend((0..(self.settings.k - exact_k) as usize).map(on_curve));
        let mut place = *exact_k as usize;
        for bin in residual_bins {
            let scale: f64 = bytes.numbers(bin.scale_dtype, 1).into_iter().sum();
            let (count, zero) = (bin.num_elements as usize, 1_i128 << (bin.element_bits - 1));
            let codes = unpack(bytes.take(packed_bytes(count, bin.element_bits)), bin.element_bits, count)
                .ok_or("a residual bin has bits after its last code: the settings are those of other files")?;
            for code in codes {
                values[place] += scale * (i128::from(code) - zero) as f64;
                place += 1;
            }
        }
        if *delta_encoding {
            let mut sum = 0.0;
            values.iter_mut().for_each(|value| {
                sum += *value;
                *value = sum;
            });
        }
        Ok(values)
    }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count);
        self.0 = rest;
        front
    }

    fn numbers(&mut self, format: NumberFormat, count: usize) -> Vec<f64> {
        self.take(count * format.bytes()).chunks_exact(format.bytes()).map(|bytes| format.read(bytes)).collect()
    }
}

#[cfg(test)]
mod tests;
