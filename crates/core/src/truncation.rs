//! What is kept of a row: which classes, the precision of their log-probabilities, and the summary of the rest.

use crate::lanes::all;
use crate::{ConfigError, RowSource, Selection, TailRule, TailSource};
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

/// Allowed steps of [`LogProbPrecision::Quantised`]; every multiple up to [`MAX_STEPS`] of them is exact in f16.
const STEPS: [f64; 5] = [0.5, 0.25, 0.125, 0.0625, 0.031_25];
/// Step of the log-partition in nats, where values are quantised.
const LOG_Z_STEP: f64 = 1.0 / 512.0;
/// Maximum number of steps of a quantised value: f16 represents every integer up to 2,048 exactly.
const MAX_STEPS: u16 = 2_047;

/// How log-probabilities are rounded before they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogProbPrecision {
    /// To the nearest f16.
    F16 {},
    /// To the nearest multiple of a step, or of a part of it where probabilities are large: an eighth above -1 nat, a
    /// quarter above -2 nats. (All of them are f16 values.)
    Quantised {
        /// The step in nats: 1/32, 1/16, 1/8, 1/4 or 1/2.
        step: f64,
    },
}

impl Default for LogProbPrecision {
    fn default() -> Self {
        Self::F16 {}
    }
}

impl LogProbPrecision {
    /// Code of a log-probability: 0 for 0, larger for lower values. `None` below the representable range.
    #[inline]
    pub fn code(self, log_prob: f32) -> Option<u16> {
        // Avoids -0, whose bits are another code.
        let magnitude = 0.0 - log_prob.min(0.0);
        match self {
            Self::F16 {} => {
                Some(f16::from_f32(magnitude)).filter(|value| value.is_finite()).map(|value| value.to_bits())
            }
            Self::Quantised { step } => {
                let code = finer(f64::from(magnitude), step).round();
                (code <= f64::from(self.max_code())).then_some(code as u16)
            }
        }
    }

    /// The log-probability that a code represents, as a reader gets it.
    #[inline]
    pub fn value(self, code: u16) -> f32 {
        let magnitude = match self {
            Self::F16 {} => f16::from_bits(code).to_f32(),
            Self::Quantised { step } => coarser(f64::from(code), step) as f32,
        };
        // Avoids -0, which would be another bit pattern for the same value in a file.
        0.0 - magnitude
    }

    /// The largest code.
    pub fn max_code(self) -> u16 {
        match self {
            Self::F16 {} => f16::MAX.to_bits(),
            Self::Quantised { step } => finer(f64::from(MAX_STEPS) * step, step) as u16,
        }
    }

    /// The nearest representable log-probability; `None` below the representable range.
    pub fn round(self, log_prob: f32) -> Option<f32> {
        self.code(log_prob).map(|code| self.value(code))
    }

    /// Whether it is representable, so that it can be written and read.
    pub fn writes(self, log_prob: f32) -> bool {
        let bits = log_prob.to_bits();
        match self {
            Self::F16 {} if is_normal_f16(bits) || bits == 0 => true,
            Self::F16 {} => self.round(log_prob).is_some_and(|written| written.to_bits() == bits),
            Self::Quantised { step } => is_quantised(log_prob, step as f32),
        }
    }

    /// Rounds a log-partition to f32, and to a multiple of 1/512 nat if values are quantised: raw logits are then
    /// much less exact than that, and no re-tempered probability depends on it.
    pub fn round_log_z(self, log_z: f64) -> f32 {
        match self {
            Self::F16 {} => log_z as f32,
            Self::Quantised { .. } => ((log_z / LOG_Z_STEP).round() * LOG_Z_STEP) as f32,
        }
    }

    /// Distance between neighbouring values of [`Self::round_log_z`], as far as it exceeds that of f32.
    pub fn log_z_step(self) -> f64 {
        match self {
            Self::F16 {} => 0.0,
            Self::Quantised { .. } => LOG_Z_STEP,
        }
    }

    /// Returns the first value that is not representable.
    pub fn find_foreign(self, log_probs: &[f32]) -> Option<f32> {
        Arch::new().dispatch(FindForeign { values: self, log_probs })
    }

    /// Relative error that rounding may cause in a sum of probabilities: half a step of the exponent.
    pub fn mass_tolerance(self) -> f64 {
        match self {
            Self::F16 {} => 0.0,
            Self::Quantised { step } => step / 2.0,
        }
    }

    fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::F16 {} => Ok(()),
            Self::Quantised { step } => {
                ConfigError::unless(STEPS.contains(&step), "step", step, "one of 0.03125, 0.0625, 0.125, 0.25 and 0.5")
            }
        }
    }
}

/// The number of representable values from 0 on: eighths of a step up to 1 nat, quarters up to 2 nats, then steps.
fn finer(magnitude: f64, step: f64) -> f64 {
    let steps = match magnitude {
        ..1.0 => 8.0 * magnitude,
        ..2.0 => 4.0 * (magnitude + 1.0),
        _ => magnitude + 10.0,
    };
    steps / step
}

/// The inverse of [`finer`].
fn coarser(code: f64, step: f64) -> f64 {
    let nats = code * step;
    match nats {
        ..8.0 => nats / 8.0,
        ..12.0 => nats / 4.0 - 1.0,
        _ => nats - 10.0,
    }
}

/// [`LogProbPrecision::find_foreign`].
struct FindForeign<'a> {
    values: LogProbPrecision,
    log_probs: &'a [f32],
}

impl WithSimd for FindForeign<'_> {
    type Output = Option<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<f32> {
        // Nearly all are normal f16 numbers, which vector instructions recognise; others are checked individually.
        let is_plain = |lp: f32| is_normal_f16(lp.to_bits()) | (lp.to_bits() == 0);
        let are_written = |chunk: &[f32]| match self.values {
            LogProbPrecision::F16 {} => all(chunk, is_plain),
            LogProbPrecision::Quantised { step } => all(chunk, |lp: f32| is_quantised(lp, step as f32)),
        };
        let mut chunks = self.log_probs.chunks(64);
        chunks.find_map(|chunk| match are_written(chunk) {
            true => None,
            false => chunk.iter().find(|lp| !self.values.writes(**lp)).copied(),
        })
    }
}

/// Whether it is a value of [`LogProbPrecision::Quantised`]. Steps are powers of two, so all operations are exact.
#[inline(always)]
fn is_quantised(log_prob: f32, step: f32) -> bool {
    let magnitude = -log_prob;
    let parts = if magnitude < 1.0 {
        8.0
    } else if magnitude < 2.0 {
        4.0
    } else {
        1.0
    };
    let steps = magnitude * (parts / step);
    let is_within = (magnitude >= 0.0) & (magnitude <= f32::from(MAX_STEPS) * step);
    (steps.floor() == steps) & is_within & (log_prob.to_bits() != (-0.0f32).to_bits())
}

/// Whether it is a negative normal number of f16: f16 has its exponent, and the 13 bits that f16 lacks are zero.
#[inline(always)]
fn is_normal_f16(bits: u32) -> bool {
    (bits & 0x1fff == 0) & (0xb880_0000..=0xc77f_e000).contains(&bits)
}

/// Everything that determines what a row holds.
///
/// # Examples
/// ```
/// use logitcask_core::{LogProbPrecision, RowSource, Selection, TailRule, Truncation};
///
/// let keep = Truncation {
///     selection: Selection::TopP { p: 0.95, k: 64 },
///     always_keep: vec![0],
///     values: LogProbPrecision::F16 {},
///     tail: Some(TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 }),
///     padding: 0,
///     source: RowSource::FULL,
/// };
/// assert_eq!(keep.check(32_000), Ok(()));
/// assert_eq!((keep.min_kept(32_000), keep.max_kept(32_000)), (1, 65));
/// let dense = Truncation { selection: Selection::Dense {}, ..keep };
/// assert!(dense.check(100_000).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Which classes are kept.
    pub selection: Selection,
    /// Classes kept at every position whatever their probability, ascending.
    pub always_keep: Vec<u32>,
    /// Precision of the stored log-probabilities.
    pub values: LogProbPrecision,
    /// Summary of the classes outside; `None` exactly for [`Selection::Dense`], which leaves none outside, and for a
    /// source that did not tell the shape of the tail.
    pub tail: Option<TailRule>,
    /// Number of rows of the teacher's head beyond its vocabulary, which belong to no token: part of log Z and of the
    /// tail, never kept. A dense row has no tail: the difference between 1 and the total probability of its classes at
    /// T = 1 is the padding's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub padding: u32,
    /// What the source of the rows could tell.
    #[serde(default, skip_serializing_if = "RowSource::is_full")]
    pub source: RowSource,
}

/// A padding of 0 is not written.
fn is_zero(padding: &u32) -> bool {
    *padding == 0
}

impl Truncation {
    /// Maximum number of classes that a position can keep.
    pub fn max_kept(&self, vocab_size: u32) -> u32 {
        let extra = self.always_keep.len() as u32;
        match self.selection {
            Selection::TopK { k } | Selection::TopP { k, .. } => vocab_size.min(k.saturating_add(extra)),
            Selection::Sample { n, .. } => n,
            Selection::Dense {} => vocab_size,
        }
    }

    /// Minimum number of classes that a position can keep.
    pub fn min_kept(&self, vocab_size: u32) -> u32 {
        match self.selection {
            Selection::TopP { .. } => 1,
            Selection::TopK { k } => k,
            Selection::Sample { .. } | Selection::Dense {} => self.max_kept(vocab_size),
        }
    }

    /// Whether every position keeps the same number of classes.
    pub fn is_fixed(&self) -> bool {
        match self.selection {
            Selection::TopK { .. } => self.always_keep.is_empty(),
            Selection::TopP { .. } => false,
            Selection::Sample { .. } | Selection::Dense {} => true,
        }
    }

    /// Whether some of the kept classes are sampled.
    pub fn is_sampled(&self) -> bool {
        matches!(self.selection, Selection::Sample { .. })
    }

    /// Whether all classes are kept, in the order of ids.
    pub fn is_dense(&self) -> bool {
        matches!(self.selection, Selection::Dense {})
    }

    /// Number of atoms at each position.
    pub fn atoms(&self) -> usize {
        self.tail.map_or(0, |tail| tail.atoms as usize)
    }

    /// Rejects a truncation that is impossible with `vocab_size` classes (padding not counted).
    ///
    /// # Errors
    /// Names the key and what would be accepted.
    pub fn check(&self, vocab_size: u32) -> Result<(), ConfigError> {
        self.selection.check(vocab_size).map_err(|error| error.within("selection"))?;
        self.values.check().map_err(|error| error.within("values"))?;
        self.check_always_keep(vocab_size)?;
        self.source.check(self.selection, &self.always_keep).map_err(|error| error.within("source"))?;
        let most = self.max_kept(vocab_size);
        if self.padding > 0 && !self.is_dense() && most == vocab_size {
            let problem = ConfigError::new("padding", self.padding, "0 where every class is kept");
            return Err(problem.because(format!(
                "all {vocab_size} classes that a token has would be kept, and {} that none has are left: use dense",
                self.padding
            )));
        }
        if !self.is_dense() && most > u32::from(u16::MAX) {
            let limit = format!("so few that at most {} classes are kept at a position", u16::MAX);
            return Err(ConfigError::new("always_keep", format!("{} classes", self.always_keep.len()), limit));
        }
        let null = |why| Err(ConfigError::new("tail", "a table", "null").because(why));
        match (self.is_dense(), self.source.tail, &self.tail) {
            (true, _, None) | (false, TailSource::Mass | TailSource::None, None) => Ok(()),
            (true, _, Some(_)) => null("a dense row leaves no class out: it has no tail"),
            (false, TailSource::Mass | TailSource::None, Some(_)) => null("the source told no shape of the tail"),
            (false, TailSource::Atoms, None) => {
                Err(ConfigError::missing("tail", "a table").because("a row that leaves classes out needs a tail"))
            }
            (false, TailSource::Atoms, Some(tail)) => tail.check().map_err(|error| error.within("tail")),
        }
    }

    fn check_always_keep(&self, vocab_size: u32) -> Result<(), ConfigError> {
        let ids = &self.always_keep;
        ConfigError::unless(ids.is_sorted_by(|a, b| a < b), "always_keep", format!("{ids:?}"), "ascending")?;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab_size) {
            let expected = format!("classes below {vocab_size}, the size of the vocabulary");
            return Err(ConfigError::new("always_keep", format!("[.., {id}, ..]"), expected));
        }
        match self.selection {
            Selection::Dense {} if !ids.is_empty() => Err(ConfigError::new("always_keep", format!("{ids:?}"), "empty")
                .because("it says nothing where every class is kept")),
            Selection::Sample { n, .. } if ids.len() >= n as usize => {
                let (got, expected) = (format!("{} classes", ids.len()), format!("fewer than n = {n} classes"));
                Err(ConfigError::new("always_keep", got, expected).because("none of the n would be left to draw"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
