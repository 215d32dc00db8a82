//! Dynamic temperature: teacher and student get the temperatures at which their largest logits are equally large.

use super::{Heat, Heats, Needs, Scene, Temper};

/// Least share of the recipe's temperature: logits may come near 0.
const LEAST: f64 = 0.25;

/// T_teacher = 2 x T / (x + y), T_student = 2 y T / (x + y) with x and y the largest raw logits; T where these are not
/// both positive. It sees the raw scale: a constant added to all logits changes it.
pub(super) struct Dtkd;

impl Temper for Dtkd {
    fn needs(&self) -> Needs {
        Needs::POSITIONS
    }

    fn heats(&mut self, scene: &Scene<'_>) -> Heats {
        let t = scene.temperature;
        let share = |mine: f64, sum: f64| (2.0 * mine * t / sum).max(LEAST * t);
        let heat = |x: f64, y: f64| match x > 0.0 && y > 0.0 {
            true => Heat { teacher: share(x, x + y), student: share(y, x + y) },
            false => Heat::both(t),
        };
        Heats::Each(scene.positions.iter().map(|p| heat(p.teacher.largest, p.student.largest)).collect())
    }
}
