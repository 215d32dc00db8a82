//! Learning rate schedules. They are pure functions of the step, so that nothing has to be stored to resume.

use logitcask_core::ConfigError;
use serde::{Deserialize, Serialize};

/// The learning rate after the linear warm-up, as a share of its peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LrSchedule {
    /// Half a cosine from 1 down to `floor`.
    Cosine {
        /// Share of the peak at the end.
        floor: f64,
    },
    /// Warm-up, stable, decay: the peak until the last `decay` share of the run, then linear down to 0 (2404.06395).
    Wsd {
        /// Share of the run spent decaying.
        decay: f64,
    },
}

impl Default for LrSchedule {
    fn default() -> Self {
        Self::Cosine { floor: 0.1 }
    }
}

impl LrSchedule {
    /// Refuses shares outside 0..=1, and a decay that is none.
    ///
    /// # Errors
    /// Names the key, its value and what is accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Cosine { floor } => {
                ConfigError::unless((0.0..=1.0).contains(&floor), "floor", floor, "a share of the peak, 0 to 1")
            }
            Self::Wsd { decay } => {
                let expected = "a share of the run, more than 0 and 1 at most";
                ConfigError::unless(decay > 0.0 && decay <= 1.0, "decay", decay, expected).map_err(|error| {
                    error.because("for a rate that stays at its peak, write { kind = \"cosine\", floor = 1.0 }")
                })
            }
        }
    }

    /// Share of the peak at `step` (counted from 0) of `steps`, the first `warmup` of which rise linearly.
    pub fn at(&self, step: u64, steps: u64, warmup: u64) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
        match *self {
            Self::Cosine { floor } => floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Self::Wsd { decay } => {
                let left = (steps.saturating_sub(step)) as f64 / (decay * steps as f64).max(1.0);
                left.min(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schedule_says_why() {
        let problem = |schedule: LrSchedule| schedule.check().unwrap_err().to_string();
        assert!(problem(LrSchedule::Wsd { decay: 0.0 }).contains("floor = 1.0"));
        assert!(problem(LrSchedule::Wsd { decay: 1.5 }).contains("decay = 1.5"));
        assert!(problem(LrSchedule::Cosine { floor: f64::NAN }).contains("floor = NaN"));
        let constant = LrSchedule::Cosine { floor: 1.0 };
        assert!(constant.check().is_ok() && (0..100).all(|step| constant.at(step, 100, 0) == 1.0));
    }

    #[test]
    fn warm_up_peak_and_end() {
        let cosine = LrSchedule::Cosine { floor: 0.1 };
        assert_eq!(cosine.at(0, 100, 10), 0.1);
        assert_eq!(cosine.at(9, 100, 10), 1.0);
        assert_eq!(cosine.at(10, 100, 10), 1.0);
        assert!((cosine.at(55, 100, 10) - 0.55).abs() < 1e-12);
        assert!(cosine.at(99, 100, 10) < 0.102);

        let wsd = LrSchedule::Wsd { decay: 0.2 };
        assert_eq!([wsd.at(10, 100, 10), wsd.at(80, 100, 10)], [1.0, 1.0]);
        assert_eq!([wsd.at(90, 100, 10), wsd.at(99, 100, 10)], [0.5, 0.05]);
    }
}
