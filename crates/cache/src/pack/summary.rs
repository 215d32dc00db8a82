//! Coding of what a position has beside its entries: log_z, the label's rank and log-probability, and the tail's atoms.

use super::coder::Coder;
use super::error::PackError;
use super::predictor::{BOUND, Features};
use super::{LabelMode, MAX_ATOMS, Model, NO_ATOM, NOT_KEPT, position};

/// Table for the form of log_z; the next constants continue the layout of tables in the model.
const LOG_Z_FORM: usize = position::TABLES;
/// Table for log_z.
const LOG_Z: usize = LOG_Z_FORM + 1;
/// Tables for the rank of a label that is kept for its own sake, among one, two or more equal values.
const GOLD_TIE: usize = LOG_Z + 1;
/// Table for the rank of a label that was sampled.
const GOLD_SAMPLED: usize = GOLD_TIE + 3;
/// Table for the rank of a label that is not kept.
const GOLD_RANK: usize = GOLD_SAMPLED + 1;
/// Table for the code of a label that is not kept.
const GOLD_CODE: usize = GOLD_RANK + 1;
/// Table for the number of unused atoms.
const UNUSED: usize = GOLD_CODE + 1;
/// Tables for the logit and the log-weight of each atom.
const ATOM: usize = UNUSED + 1;
/// Number of tables of a model.
pub(super) const TABLES: usize = ATOM + 2 * MAX_ATOMS;

/// Flag for logits of atoms that are not on the coarse grid.
const FINE: usize = position::FLAGS;
/// Number of flags of a model.
pub(super) const FLAGS: usize = FINE + 1;

/// Low bits of an atom's logit that are zero on the coarse grid, whose step is 1/16 nat.
const LOW_BITS: u32 = 5;
/// Smallest distance of log_z from 0 that is predicted, in units of 1/512 nat.
const LEAST_LOG_Z: u32 = 512;

/// The entries of a position in their final order.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    /// The classes.
    pub(super) class_ids: &'a [u32],
    /// Codes of their log-probabilities.
    pub(super) codes: &'a [u16],
    /// Number of classes that were not sampled, which come first.
    pub(super) head: usize,
}

/// What a position has beside its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The bits of log_z.
    pub(super) log_z: u32,
    /// The label's rank.
    pub(super) gold_rank: u32,
    /// The code of its log-probability.
    pub(super) gold_code: u16,
    /// The atoms; the cache's number of them is used.
    pub(super) atoms: [[i16; 2]; MAX_ATOMS],
}

impl Summary {
    /// What a decoder passes instead of values that it does not know yet.
    pub(super) const UNKNOWN: Self = Self { log_z: 0, gold_rank: 0, gold_code: 0, atoms: [NO_ATOM; MAX_ATOMS] };

    /// All numbers as the features that later positions of the fit need; `None` if some atoms are unused.
    pub(super) fn features(&self, mut features: Features, atoms: usize) -> Option<Features> {
        let atoms = &self.atoms[..atoms];
        if atoms.contains(&NO_ATOM) {
            return None;
        }
        features.push(parts_of_log_z(self.log_z).map_or(0, |(units, _)| units));
        atoms.as_flattened().iter().for_each(|&number| features.push(number.into()));
        Some(features)
    }
}

impl Model {
    /// Codes the rest of a position with these entries and this label.
    pub(super) fn summary<C: Coder>(
        &self,
        coder: &mut C,
        entries: Entries<'_>,
        label: u32,
        given: &Summary,
    ) -> Result<Summary, PackError> {
        let mut features = Features::new(entries, self.shape.codes);
        let log_z = match self.shape.log_z {
            true => self.log_z(coder, &mut features, given.log_z)?,
            false => {
                features.push(0);
                0
            }
        };
        let (gold_rank, gold_code) = match self.shape.labels {
            LabelMode::All => self.gold(coder, entries, label, given)?,
            LabelMode::Kept if !entries.class_ids.contains(&label) => (NOT_KEPT, 0),
            LabelMode::Kept => (self.gold(coder, entries, label, given)?.0, 0),
            LabelMode::Unknown => (0, 0),
        };
        let atoms = self.atoms(coder, &mut features, &given.atoms)?;
        Ok(Summary { log_z, gold_rank, gold_code, atoms })
    }

    /// Codes log_z: in units of 1/512 nat, with the bits below where there are any, or as it is.
    fn log_z<C: Coder>(&self, coder: &mut C, features: &mut Features, given: u32) -> Result<u32, PackError> {
        let parts = parts_of_log_z(given);
        let form = coder.number(LOG_Z_FORM, parts.map_or(2, |(_, low)| u32::from(low > 0)));
        if form >= 2 {
            let high = coder.bits(15, given >> 17) << 17 | coder.bits(15, given >> 2 & 0x7fff) << 2;
            let bits = high | coder.bits(2, given & 3);
            features.push(0);
            return if form == 2 && parts_of_log_z(bits).is_none() { Ok(bits) } else { Err(PackError::LogZ) };
        }
        let (units, low) = parts.unwrap_or_default();
        let predicted = self.predictor.predict(features);
        let units = predicted + from_unsigned(coder.number(LOG_Z, to_unsigned(units - predicted)));
        if !(LEAST_LOG_Z..=BOUND as u32).contains(&units.unsigned_abs()) {
            return Err(PackError::LogZ);
        }
        features.push(units);
        let low = if form == 1 { coder.bits(low_bits(units), low) } else { 0 };
        if u32::from(low > 0) == form { Ok(log_z_of_parts(units, low)) } else { Err(PackError::LogZ) }
    }

    /// Codes the label's rank and code. The code of a kept label is that of its entry, and its rank one of the places
    /// of entries with that code, or a later one if it is kept whatever its rank.
    fn gold<C: Coder>(
        &self,
        coder: &mut C,
        entries: Entries<'_>,
        label: u32,
        given: &Summary,
    ) -> Result<(u32, u16), PackError> {
        let codes = self.shape.codes;
        let Some(place) = entries.class_ids.iter().position(|&id| id == label) else {
            let rank = coder.number(GOLD_RANK, given.gold_rank);
            let lowest = entries.codes.iter().map(|&code| codes.coarse(code) as i32).max().unwrap_or(0);
            let below = codes.coarse(given.gold_code) as i32 - lowest;
            let coarse = lowest + from_unsigned(coder.number(GOLD_CODE, to_unsigned(below)));
            let coarse = u32::try_from(coarse).ok().filter(|&coarse| coarse <= codes.coarse_max());
            return Ok((rank, codes.fine(coder, coarse.ok_or(PackError::Code)?, given.gold_code)?));
        };
        let code = entries.codes[place];
        if place >= entries.head {
            return Ok((coder.number(GOLD_SAMPLED, given.gold_rank), code));
        }
        let head = entries.codes[..entries.head].iter();
        let (first, equal) = head.fold((0_u32, 0_u32), |(first, equal), &other| {
            (first + u32::from(other < code), equal + u32::from(other == code))
        });
        let after = coder.number(GOLD_TIE + equal.min(3) as usize - 1, given.gold_rank.saturating_sub(first));
        Ok((first + after, code))
    }

    /// Codes the atoms. Few logits have bits below the coarse grid.
    fn atoms<C: Coder>(
        &self,
        coder: &mut C,
        features: &mut Features,
        given: &[[i16; 2]; MAX_ATOMS],
    ) -> Result<[[i16; 2]; MAX_ATOMS], PackError> {
        let mut atoms = [NO_ATOM; MAX_ATOMS];
        let count = self.shape.atoms;
        if count == 0 {
            return Ok(atoms);
        }
        let used = given[..count].iter().rposition(|atom| *atom != NO_ATOM).map_or(0, |last| last + 1);
        let unused = coder.number(UNUSED, (count - used) as u32) as usize;
        let used = count.checked_sub(unused).ok_or(PackError::Atoms)?;
        let is_fine = coder.flag(FINE, are_fine(&given[..used]));
        for (number, atom) in atoms[..used].iter_mut().enumerate() {
            for (part, bits) in [LOW_BITS, 0].into_iter().enumerate() {
                let value = i32::from(given[number][part]);
                let predicted = (self.predictor.predict(features) + (1 << bits >> 1)) >> bits;
                let off = coder.number(ATOM + 2 * number + part, to_unsigned((value >> bits) - predicted));
                let low = if is_fine { coder.bits(bits, value as u32 & ((1 << bits) - 1)) } else { 0 };
                let value = (predicted + from_unsigned(off)) << bits | low as i32;
                atom[part] = i16::try_from(value).map_err(|_| PackError::Atoms)?;
                features.push(value);
            }
        }
        // Otherwise several byte strings would decode to the same atoms.
        let is_canonical = is_fine == are_fine(&atoms[..used]) && atoms[..used].last() != Some(&NO_ATOM);
        if is_canonical { Ok(atoms) } else { Err(PackError::Atoms) }
    }
}

/// Whether some logit is not on the coarse grid.
fn are_fine(atoms: &[[i16; 2]]) -> bool {
    atoms.iter().any(|&[logit, _]| logit & ((1 << LOW_BITS) - 1) != 0)
}

/// Number of bits of an f32 below 1/512, for a value from 1 to 128 in units of 1/512.
fn low_bits(units: i32) -> u32 {
    23 - units.unsigned_abs().ilog2()
}

/// Divides the bits of an f32 into a number of units of 1/512, rounded towards 0, and the bits below; `None` if its
/// magnitude is not in 1..128.
fn parts_of_log_z(bits: u32) -> Option<(i32, u32)> {
    let octave = (bits >> 23 & 0xff).checked_sub(127).filter(|&octave| octave < 7)?;
    let (mantissa, low_bits) = (1 << 23 | bits & 0x7f_ffff, 14 - octave);
    let magnitude = (mantissa >> low_bits) as i32;
    let units = if bits >> 31 == 0 { magnitude } else { -magnitude };
    Some((units, mantissa & ((1 << low_bits) - 1)))
}

/// The inverse of [`parts_of_log_z`].
fn log_z_of_parts(units: i32, low: u32) -> u32 {
    let (magnitude, sign) = (units.unsigned_abs(), u32::from(units < 0));
    let mantissa = magnitude << low_bits(units) | low;
    sign << 31 | (magnitude.ilog2() + 127 - 9) << 23 | mantissa & 0x7f_ffff
}

/// Orders 0, -1, 1, -2, 2 and so on.
fn to_unsigned(number: i32) -> u32 {
    ((number << 1) ^ (number >> 31)).cast_unsigned()
}

/// The inverse of [`to_unsigned`].
fn from_unsigned(number: u32) -> i32 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_z_is_divided_and_joined() {
        for log_z in [1.0_f32, -1.0, 17.123_457, -3.99, 127.999_99, 8767.0 / 512.0] {
            let (units, low) = parts_of_log_z(log_z.to_bits()).unwrap();
            assert_eq!(units, (log_z * 512.0) as i32);
            assert_eq!(low == 0, (log_z * 512.0).fract() == 0.0, "{log_z}");
            assert_eq!(log_z_of_parts(units, low), log_z.to_bits(), "{log_z}");
            assert!((LEAST_LOG_Z..=BOUND as u32).contains(&units.unsigned_abs()));
        }
        for log_z in [0.0, 0.999, 128.0, -500.0, f32::INFINITY, f32::NAN] {
            assert_eq!(parts_of_log_z(log_z.to_bits()), None, "{log_z}");
        }
    }

    #[test]
    fn signed_numbers_are_ordered_by_magnitude() {
        let numbers = [0, -1, 1, -2, 2, -3];
        assert_eq!(numbers.map(to_unsigned), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numbers.map(to_unsigned).map(from_unsigned), numbers);
        assert!(to_unsigned(2 * BOUND).max(to_unsigned(-2 * BOUND)) < super::super::coder::NUMBER_END);
    }
}
