//! The older form of a position.
//!
//! Ids of b = ceil(log2 vocab_size) bits stand in 64-bit words, 64 / b in each, the first one in the lowest bits.
//! Values are `exact_k` numbers, then a curve over the other places a = 1, 2, ..: sum_i c_i a^-i (or a^i, without
//! `invert_polynomial`) for i = 0..=degree, and c sqrt(a). Nothing says whether the values are log-probabilities.

use super::settings::{LegacyCompression, id_bits};
use crate::source::Entry;
use logitcask_core::math::log_sum_exp;
use serde::Serialize;

/// What the values of the older form are: its files do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LegacyValues {
    /// Log-probabilities.
    LogProbs,
    /// Logits less their mean: of the probabilities, only the proportions among the kept classes are known.
    CentredLogits,
}

/// Decodes positions of one file.
pub(super) struct LegacyDecoder {
    settings: LegacyCompression,
    values: LegacyValues,
    /// The terms at every place of the curve, place after place.
    curve: Vec<Vec<f64>>,
}

impl LegacyDecoder {
    pub fn new(settings: &LegacyCompression, values: LegacyValues) -> Self {
        let sign = if settings.invert_polynomial { -1 } else { 1 };
        let terms = |place: u32| {
            let powers = (0..=settings.polynomial_degree as i32).map(|power| f64::from(place).powi(sign * power));
            powers.chain(settings.with_sqrt_term.then(|| f64::from(place).sqrt())).collect()
        };
        Self { curve: (1..=settings.k - settings.exact_k).map(terms).collect(), values, settings: settings.clone() }
    }

    /// The classes of a position, in the order in which they are stored.
    pub fn position(&self, words: &[u64], exact: &[f64], coefficients: &[f64]) -> Result<Vec<Entry>, String> {
        let LegacyCompression { k, exact_k, polynomial_degree, with_sqrt_term, .. } = self.settings;
        let of_length = |column: &str, length: usize, expected: usize| match length == expected {
            true => Ok(()),
            false => Err(format!(
                "`{column}` has {length} items, but the settings make {expected}: they are those of other files, or \
                 the position is cut off"
            )),
        };
        let per_word = (64 / id_bits(self.settings.vocab_size)) as usize;
        of_length("packed_indices", words.len(), (k as usize).div_ceil(per_word))?;
        of_length("exact_values", exact.len(), exact_k as usize)?;
        of_length("coeffs", coefficients.len(), polynomial_degree as usize + 1 + usize::from(with_sqrt_term))?;
        let on_curve =
            |terms: &Vec<f64>| terms.iter().zip(coefficients).map(|(term, coefficient)| term * coefficient).sum();
        let mut values: Vec<f64> = exact.iter().copied().chain(self.curve.iter().map(on_curve)).collect();
        if self.values == LegacyValues::CentredLogits {
            let log_sum = log_sum_exp(&values);
            values.iter_mut().for_each(|value| *value -= log_sum);
        }
        let entry = |(id, log_prob)| Entry { id, log_prob };
        Ok(self.ids(words)?.into_iter().zip(values).map(entry).collect())
    }

    fn ids(&self, words: &[u64]) -> Result<Vec<u64>, String> {
        let bits = id_bits(self.settings.vocab_size);
        let (per_word, mask) = (64 / bits, (1 << bits) - 1);
        let mut ids: Vec<u64> =
            words.iter().flat_map(|word| (0..per_word).map(move |place| word >> (bits * place) & mask)).collect();
        let stray = ids.drain(self.settings.k as usize..).any(|id| id != 0);
        let is_beyond = |word: &u64| per_word * bits < 64 && word >> (per_word * bits) != 0;
        match stray || words.iter().any(is_beyond) {
            false => Ok(ids),
            true => Err(format!(
                "`packed_indices` has bits beside the ids of {bits} bits: vocab_size and k are those of other files"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(k: u32, exact_k: u32) -> LegacyCompression {
        LegacyCompression {
            k,
            exact_k,
            polynomial_degree: 1,
            vocab_size: 1 << 17,
            invert_polynomial: true,
            with_sqrt_term: true,
            term_dtype: Default::default(),
        }
    }

    #[test]
    fn a_word_has_the_first_id_in_its_lowest_bits() {
        let decoder = LegacyDecoder::new(&settings(4, 2), LegacyValues::LogProbs);
        let words = [7 | 65_537 << 17 | 131_071 << 34, 9];
        let entries = decoder.position(&words, &[-0.5, -1.5], &[-3.0, 1.0, -0.25]).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [7, 65_537, 131_071, 9]);
        // At places 1 and 2: -3 + 1 / a - sqrt(a) / 4.
        let expected = [-0.5, -1.5, -3.0 + 1.0 - 0.25, -3.0 + 0.5 - 0.25 * 2f64.sqrt()];
        assert_eq!(entries.iter().map(|entry| entry.log_prob).collect::<Vec<_>>(), expected);
        for (words, what) in [([7, 9 | 1 << 20], "an id too many"), ([7 | 1 << 60, 9], "a bit beyond the ids")] {
            assert!(decoder.position(&words, &[0.0; 2], &[0.0; 3]).unwrap_err().contains("beside the ids"), "{what}");
        }
        assert!(
            decoder.position(&words[..1], &[0.0; 2], &[0.0; 3]).unwrap_err().contains("`packed_indices` has 1 items")
        );
    }

    #[test]
    fn of_centred_logits_the_proportions_are_kept() {
        let decoder = LegacyDecoder::new(&settings(2, 2), LegacyValues::CentredLogits);
        let entries = decoder.position(&[3], &[5.0, 5.0 - 3f64.ln()], &[0.0; 3]).unwrap();
        let probabilities: Vec<f64> = entries.iter().map(|entry| entry.log_prob.exp()).collect();
        assert!((probabilities[0] - 0.75).abs() < 1e-12 && (probabilities[1] - 0.25).abs() < 1e-12);
    }
}
