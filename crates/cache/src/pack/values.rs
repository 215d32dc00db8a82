//! Division of a code into a part that a context can predict and a part that is noise.

use super::coder::Coder;
use super::error::PackError;

/// The meaning of a cache's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueCode {
    /// Multiples of a fixed step, all of which are worth predicting, and parts of it near 0. The number is that of steps
    /// in a nat.
    Steps(u16),
    /// The magnitude bits of an IEEE half, up to the largest finite one.
    Half,
}

/// Bits of the largest finite half.
const HALF_MAX: u16 = 0x7bff;
/// 64 as a half: from here on a unit in the last place is at least 1/16.
const HALF_64: u16 = 0x5400;
/// 1/16 as a half.
const HALF_SIXTEENTH: u16 = 0x2c00;

impl ValueCode {
    /// The part of `code` that is predicted. For a half it is the value in sixteenths, rounded down, up to 64, and
    /// units in the last place from there on.
    pub(super) fn coarse(self, code: u16) -> u32 {
        let magnitude = 1024 + u32::from(code & 1023);
        match self {
            Self::Steps(nat) => {
                let (code, nat) = (u32::from(code), u32::from(nat));
                if code >= 12 * nat {
                    code - 10 * nat
                } else if code >= 8 * nat {
                    (code >> 2) - nat
                } else {
                    code >> 3
                }
            }
            Self::Half if code < HALF_SIXTEENTH => 0,
            Self::Half if code < HALF_64 => magnitude >> (21 - (code >> 10)),
            Self::Half => 1024 + u32::from(code - HALF_64),
        }
    }

    /// The largest value of `coarse`.
    pub(super) fn coarse_max(self) -> u32 {
        match self {
            Self::Steps(_) => self.coarse(u16::MAX),
            Self::Half => self.coarse(HALF_MAX),
        }
    }

    /// About how far the value is below 0, in 1/512 nat.
    pub(super) fn distance(self, code: u16) -> i32 {
        let units = match self {
            Self::Steps(nat) => 512 / u32::from(nat) * self.coarse(code),
            Self::Half => 32 * self.coarse(code).min(1024),
        };
        units as i32
    }

    /// Codes what remains open once `coarse <= coarse_max` is known, and returns the whole code.
    pub(super) fn fine<C: Coder>(self, coder: &mut C, coarse: u32, code: u16) -> Result<u16, PackError> {
        match self {
            Self::Steps(nat) => {
                let nat = u32::from(nat);
                let (from, bits) = if coarse < nat { (0, 3) } else { (nat, 2) };
                if coarse >= 2 * nat {
                    return Ok((coarse + 10 * nat) as u16);
                }
                let low = coder.bits(bits, u32::from(code) & ((1 << bits) - 1));
                Ok(((coarse + from) << bits | low) as u16)
            }
            Self::Half if coarse == 0 => {
                let code = coder.bits(14, u32::from(code)) as u16;
                if code < HALF_SIXTEENTH { Ok(code) } else { Err(PackError::Code) }
            }
            Self::Half if coarse < 1024 => {
                let octave = coarse.ilog2();
                let bits = 10 - octave;
                let low = coder.bits(bits, u32::from(code) & ((1 << bits) - 1));
                Ok(((11 + octave) << 10 | ((coarse << bits | low) & 1023)) as u16)
            }
            Self::Half => Ok((coarse - 1024) as u16 + HALF_64),
        }
    }
}
