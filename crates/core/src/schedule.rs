//! Numbers that change during a run. They are pure functions of the completed share of the run, so that nothing has to
//! be stored to resume.

use crate::ConfigError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::f64::consts::TAU;
use std::fmt;

/// A constant number or a schedule. In a recipe `0.9`, or a table: `{ kind = "linear", start = 1.0, end = 0.1 }`.
///
/// # Examples
/// ```
/// use logitcask_core::Schedule;
/// use logitcask_core::schedule::ScheduleKind;
///
/// let falling = Schedule::ScheduleKind(ScheduleKind::Linear { start: 4.0, end: 1.0 });
/// assert_eq!([0.0, 0.5, 1.0].map(|done| falling.at(done)), [4.0, 2.5, 1.0]);
/// assert_eq!(falling.range(), (1.0, 4.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The same number throughout the run.
    Constant(f64),
    /// A number that changes during the run.
    ScheduleKind(ScheduleKind),
}

/// A number as a function of the completed share of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleKind {
    /// Linear from `start` to `end`.
    Linear {
        /// At the first step.
        start: f64,
        /// At the end.
        end: f64,
    },
    /// Half a cosine from `start` to `end`.
    Cosine {
        /// At the first step.
        start: f64,
        /// At the end.
        end: f64,
    },
    /// Whole cosine periods: each begins and ends at `start` and reaches `turn` in its middle.
    Cyclic {
        /// Value at which each cycle begins and ends.
        start: f64,
        /// Value in the middle of each cycle.
        turn: f64,
        /// Number of cycles, at least 1.
        cycles: u32,
    },
    /// `start` until the last share `decay` of the run, then linear to `end`, to be used with a learning rate that does
    /// the same (2410.16215).
    Wsd {
        /// Value before the decay.
        start: f64,
        /// At the end.
        end: f64,
        /// Share of the run spent decaying.
        decay: f64,
    },
}

impl Schedule {
    /// The number once the share `done` of the run, 0..=1, is completed.
    pub fn at(&self, done: f64) -> f64 {
        let between = |start: f64, end: f64, share: f64| start + (end - start) * share;
        match *self {
            Self::Constant(value) => value,
            Self::ScheduleKind(ScheduleKind::Linear { start, end }) => between(start, end, done),
            Self::ScheduleKind(ScheduleKind::Cosine { start, end }) => {
                between(start, end, 0.5 - 0.5 * (TAU * done / 2.0).cos())
            }
            Self::ScheduleKind(ScheduleKind::Cyclic { start, turn, cycles }) => {
                between(start, turn, 0.5 - 0.5 * (TAU * done * f64::from(cycles)).cos())
            }
            Self::ScheduleKind(ScheduleKind::Wsd { start, end, decay }) => {
                between(start, end, ((done - (1.0 - decay)) / decay).clamp(0.0, 1.0))
            }
        }
    }

    /// The lowest and the highest number it reaches.
    pub fn range(&self) -> (f64, f64) {
        let (a, b) = match *self {
            Self::Constant(value) => (value, value),
            Self::ScheduleKind(ScheduleKind::Cyclic { start, turn, .. }) => (start, turn),
            Self::ScheduleKind(
                ScheduleKind::Linear { start, end }
                | ScheduleKind::Cosine { start, end }
                | ScheduleKind::Wsd { start, end, .. },
            ) => (start, end),
        };
        (a.min(b), a.max(b))
    }

    /// Rejects a schedule that is not a finite number at every point of a run.
    ///
    /// # Errors
    /// Names the parameter; the key is empty for a constant, whose owner knows its name.
    pub fn check(&self) -> Result<(), ConfigError> {
        let finite = |key: &str, value: f64| ConfigError::unless(value.is_finite(), key, value, "a finite number");
        match *self {
            Self::Constant(value) => finite("", value),
            Self::ScheduleKind(
                ScheduleKind::Linear { start, end }
                | ScheduleKind::Cosine { start, end }
                | ScheduleKind::Wsd { start, end, .. },
            ) => finite("start", start).and(finite("end", end)),
            Self::ScheduleKind(ScheduleKind::Cyclic { start, turn, .. }) => {
                finite("start", start).and(finite("turn", turn))
            }
        }?;
        match *self {
            Self::ScheduleKind(ScheduleKind::Wsd { decay, .. }) => {
                ConfigError::unless(decay > 0.0 && decay <= 1.0, "decay", decay, "above 0 and at most 1")
                    .map_err(|error| error.because("it is the share of the run in which the value decays"))
            }
            Self::ScheduleKind(ScheduleKind::Cyclic { cycles, .. }) => {
                ConfigError::unless(cycles > 0, "cycles", cycles, "at least 1")
            }
            _ => Ok(()),
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant(value) => value.serialize(serializer),
            Self::ScheduleKind(moving) => moving.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not an untagged enum, because its errors only say that no variant matched.
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Schedule;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or a table like { kind = \"linear\", start = 1.0, end = 0.1 }")
            }
            fn visit_f64<E>(self, value: f64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(value as f64))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Schedule, M::Error> {
                ScheduleKind::deserialize(MapAccessDeserializer::new(map)).map(Schedule::ScheduleKind)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(json: &str) -> Result<Schedule, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_starts_turns_and_ends_where_it_says() {
        let at = |json: &str| [0.0, 0.25, 0.5, 0.75, 1.0].map(|done| curve(json).unwrap().at(done));
        let close = |got: [f64; 5], wanted: [f64; 5]| {
            assert!(got.iter().zip(wanted).all(|(g, w)| (g - w).abs() < 1e-12), "{got:?}, expected {wanted:?}");
        };
        close(at("2"), [2.0; 5]);
        close(at(r#"{"kind":"linear","start":4,"end":2}"#), [4.0, 3.5, 3.0, 2.5, 2.0]);
        let quarter = 0.5 - 0.5 * 0.5f64.sqrt();
        close(at(r#"{"kind":"cosine","start":0,"end":1}"#), [0.0, quarter, 0.5, 1.0 - quarter, 1.0]);
        close(at(r#"{"kind":"cyclic","start":1,"turn":3,"cycles":2}"#), [1.0, 3.0, 1.0, 3.0, 1.0]);
        close(at(r#"{"kind":"wsd","start":0.9,"end":0.1,"decay":0.5}"#), [0.9, 0.9, 0.9, 0.5, 0.1]);
    }

    #[test]
    fn a_curve_stays_within_its_range() {
        for json in [
            r#"{"kind":"linear","start":4,"end":2}"#,
            r#"{"kind":"cosine","start":0.5,"end":3}"#,
            r#"{"kind":"cyclic","start":1,"turn":0.2,"cycles":3}"#,
            r#"{"kind":"wsd","start":0.9,"end":0.1,"decay":0.3}"#,
        ] {
            let curve = curve(json).unwrap();
            let (low, high) = curve.range();
            let values: Vec<f64> = (0..=1000).map(|i| curve.at(f64::from(i) / 1000.0)).collect();
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            // Met at its ends, and never left.
            assert!((least - low).abs() < 1e-4 && (most - high).abs() < 1e-4, "{json}: {least} to {most}");
            assert!(least >= low - 1e-12 && most <= high + 1e-12, "{json}");
        }
    }

    #[test]
    fn what_is_no_curve_says_why() {
        assert!(curve(r#""high""#).unwrap_err().contains("a number, or a table"));
        assert!(curve(r#"{"kind":"linear","start":1}"#).unwrap_err().contains("end"));
        assert!(curve(r#"{"kind":"linear","start":1,"end":2,"decay":1}"#).unwrap_err().contains("decay"));
        assert!(curve(r#"{"kind":"wsd","start":1,"end":2,"decay":0}"#).unwrap().check().unwrap_err().key == "decay");
        assert!(curve(r#"{"kind":"cyclic","start":1,"turn":2,"cycles":0}"#).unwrap().check().is_err());
        let text = r#"{"kind":"cosine","start":0.0,"end":1.0}"#;
        assert_eq!(serde_json::to_string(&curve(text).unwrap()).unwrap(), text);
        assert_eq!(serde_json::to_string(&curve("0.9").unwrap()).unwrap(), "0.9");
    }
}
