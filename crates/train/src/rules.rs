//! Rules about temperatures and weights at work beside a run.

use crate::loss::check::temperatures;
use crate::loss::{LossConfig, Reading, StepLoss, StepTerm, Term};
use logitcask_core::adapt::{Heat, Heats, Needs, Outcome, Position, Scene, Temper};
use logitcask_core::weigh::Weigher;
use logitcask_core::{Adapt, Divergence, Keep, TailPolicy};
use std::ops::Range;

/// A loss and what it remembers from step to step.
pub struct Rules {
    config: LossConfig,
    /// Of each term, the rule of its temperatures.
    tempers: Vec<Option<Box<dyn Temper>>>,
    weigher: Option<Box<dyn Weigher>>,
    /// The share of a second teacher.
    blend: Option<Box<dyn Weigher>>,
    /// Temperatures for which the rows answer.
    range: (f64, f64),
    vocab_size: usize,
    /// What others want to be told beside them.
    watched: Needs,
}

/// What rules decided at some positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Of each term, its temperatures, where a rule has a say; may be fewer than there are terms.
    pub heats: Vec<Option<Heats>>,
    /// How much of the soft part each position has; `None`: 1.
    pub weights: Option<Vec<f32>>,
    /// How much of a second teacher's.
    pub second: Option<Vec<f32>>,
}

impl Decided {
    /// Says what is no temperature and no weight. Rules look at the student, which may have diverged.
    pub(crate) fn check(&self) -> Result<(), String> {
        let each = |heats: &Heats| match heats {
            Heats::Same(heat) => vec![*heat],
            Heats::Each(heats) => heats.clone(),
        };
        let temperatures = self.heats.iter().flatten().flat_map(each).flat_map(|heat| [heat.teacher, heat.student]);
        if let Some(t) = temperatures.into_iter().find(|t| !(t.is_finite() && *t > 0.0)) {
            return Err(format!("a rule about temperatures answers {t}"));
        }
        let mut weights = self.weights.iter().chain(&self.second).flatten();
        match weights.find(|weight| !weight.is_finite()) {
            Some(weight) => Err(format!("a rule about weights answers {weight}")),
            None => Ok(()),
        }
    }

    /// For some of the positions.
    pub fn part(&self, range: Range<usize>) -> Self {
        let cut = |heats: &Heats| match heats {
            Heats::Same(heat) => Heats::Same(*heat),
            Heats::Each(heats) => Heats::Each(heats[range.clone()].to_vec()),
        };
        let part = |weights: &Option<Vec<f32>>| weights.as_ref().map(|weights| weights[range.clone()].to_vec());
        Self {
            heats: self.heats.iter().map(|heats| heats.as_ref().map(cut)).collect(),
            weights: part(&self.weights),
            second: part(&self.second),
        }
    }
}

/// What came of a step for its rules; sums are over its positions.
#[derive(Debug, Default)]
pub struct Came {
    /// Of each term, the sum of its divergence.
    pub divergences: Vec<f64>,
    /// The student's cross entropy.
    pub cross_entropy: f64,
    /// The teacher's.
    pub teacher_cross_entropy: f64,
    /// Of each term, d (sum of the loss) / d T at each position, where it was asked for.
    pub slopes: Vec<Vec<f64>>,
}

impl Rules {
    /// Those of `config` at their start, over rows of `vocab_size` classes of which `keep` is known; `None`: there are
    /// labels alone.
    pub fn new(config: &LossConfig, seed: u64, keep: Option<&Keep>, vocab_size: usize) -> Self {
        let is_taught = config.needs_teacher();
        let temper = |(i, term): (usize, Term)| term.adapt.filter(|_| is_taught)?.start(seed.wrapping_add(i as u64));
        Self {
            tempers: config.terms().enumerate().map(temper).collect(),
            weigher: config.weigh.filter(|_| is_taught).map(|weigh| weigh.start()),
            blend: config
                .second
                .as_ref()
                .filter(|_| is_taught)
                .map(|second| Box::new(second.blend) as Box<dyn Weigher>),
            range: keep.map_or((1.0, 1.0), temperatures),
            config: config.clone(),
            vocab_size,
            watched: Needs::NOTHING,
        }
    }

    /// Somebody beside them wants to be told this too.
    pub fn watch(&mut self, needs: Needs) {
        self.watched = self.watched.or(needs);
    }

    /// What any of them must be told.
    pub fn needs(&self) -> Needs {
        let tempers = self.tempers.iter().flatten().map(|temper| temper.needs());
        let weighers = self.weigher.iter().chain(&self.blend).map(|weigher| weigher.needs());
        tempers.chain(weighers).fold(self.watched, Needs::or)
    }

    /// What is read of a row, at any step; `None`: labels alone.
    pub fn reading(&self) -> Option<Reading> {
        if !self.config.needs_teacher() {
            return None;
        }
        let needs = self.needs();
        let looks_at_logits = |term: Term| {
            matches!(term.divergence, Divergence::MeanSquares { .. }) || matches!(term.adapt, Some(Adapt::Spread {}))
        };
        Some(Reading {
            draws: self.config.tail == TailPolicy::Sampled,
            classes: self.config.classes,
            // Nothing of a loss asks for the teacher's first choice.
            always_kept: 0,
            target: self.config.target,
            label: self.config.terms().any(|term| term.divergence.needs_label()),
            facts: needs.positions || self.config.terms().any(looks_at_logits),
            entropy: needs.target_entropy.map(|nats| (nats, self.range)),
            similarity: None,
        })
    }

    /// The loss when the share `done` of the run is behind.
    pub fn loss(&self, done: f64) -> StepLoss {
        let needs = self.needs();
        let term = |term: Term| {
            let teacher = term.temperature.at(done);
            StepTerm {
                factor: term.factor.at(done),
                divergence: term.divergence,
                heat: Heat { teacher, student: term.student_temperature.map_or(teacher, |curve| curve.at(done)) },
                spread: matches!(term.adapt, Some(Adapt::Spread {})).then_some(self.range),
                scale: term.scale,
                tail: term.tail,
                watches_slopes: matches!(term.adapt, Some(Adapt::Curriculum(_))),
            }
        };
        StepLoss {
            alpha: self.config.alpha.at(done),
            terms: self.config.terms().map(term).collect(),
            watches_labels: needs.cross_entropy,
        }
    }

    /// Temperatures and weights of a step of `count` positions; `positions`: all of them, where [`Self::needs`] asks for
    /// them, else none.
    pub fn decide(&mut self, done: f64, positions: &[Position], count: usize) -> Decided {
        let scene = |temperature| Scene { done, temperature, vocab_size: self.vocab_size, positions };
        let mut heats = Vec::new();
        for (term, temper) in self.config.terms().zip(&mut self.tempers) {
            heats.push(temper.as_mut().map(|temper| {
                let decided = temper.heats(&scene(term.temperature.at(done)));
                within(decided, self.range)
            }));
        }
        let weigh = |weigher: &mut Option<Box<dyn Weigher>>| Some(weigher.as_mut()?.weights(&scene(1.0)));
        let (weights, shares) = (weigh(&mut self.weigher), weigh(&mut self.blend));
        let Some(shares) = shares else { return Decided { heats, weights: weights.map(narrow), second: None } };
        let each = |i: usize| {
            // A rule that looks at no position has one share for all.
            let share = shares.get(i).or(shares.first()).copied().unwrap_or_default();
            let weight = weights.as_ref().map_or(1.0, |weights| weights[i]);
            (weight * (1.0 - share), weight * share)
        };
        let (first, second) = (0..count).map(each).unzip();
        Decided { heats, weights: Some(narrow(first)), second: Some(narrow(second)) }
    }

    /// Tells them what came of a step over so many positions.
    pub fn learn(&mut self, came: &Came, positions: usize) {
        let n = positions as f64;
        let outcome = |term: usize| Outcome {
            divergence: came.divergences.get(term).map_or(0.0, |sum| sum / n),
            cross_entropy: came.cross_entropy / n,
            teacher_cross_entropy: came.teacher_cross_entropy / n,
            slopes: &[],
        };
        for (i, temper) in self.tempers.iter_mut().enumerate() {
            let Some(temper) = temper else { continue };
            let slopes: Vec<f64> = came.slopes.get(i).into_iter().flatten().map(|slope| slope / n).collect();
            temper.learn(&Outcome { slopes: &slopes, ..outcome(i) });
        }
        if let Some(weigher) = &mut self.weigher {
            weigher.learn(&outcome(0));
        }
    }

    /// All they remember, one list a rule.
    pub fn state(&self) -> Vec<Vec<f64>> {
        let tempers = self.tempers.iter().flatten().map(|temper| temper.state());
        tempers.chain(self.weigher.iter().map(|weigher| weigher.state())).collect()
    }

    /// Goes on from what [`Self::state`] gave; `false` where that was of other rules.
    pub fn restore(&mut self, state: &[Vec<f64>]) -> bool {
        let mut state = state.iter();
        let tempers = self.tempers.iter_mut().flatten().all(|temper| state.next().is_some_and(|s| temper.restore(s)));
        let weigher = self.weigher.iter_mut().all(|weigher| state.next().is_some_and(|s| weigher.restore(s)));
        tempers && weigher && state.next().is_none()
    }
}

fn narrow(wide: Vec<f64>) -> Vec<f32> {
    wide.into_iter().map(|x| x as f32).collect()
}

/// Temperatures brought to where the rows answer.
fn within(heats: Heats, (low, high): (f64, f64)) -> Heats {
    let clamp = |heat: Heat| Heat { teacher: heat.teacher.clamp(low, high), ..heat };
    match heats {
        Heats::Same(heat) => Heats::Same(clamp(heat)),
        Heats::Each(heats) => Heats::Each(heats.into_iter().map(clamp).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_temperature_and_no_weight_is_named() {
        let good = Decided {
            heats: vec![None, Some(Heats::Each(vec![Heat::both(2.0), Heat::both(1.0)]))],
            weights: Some(vec![0.0, 1.5]),
            second: None,
        };
        assert_eq!(good.check(), Ok(()));
        for bad in [f64::NAN, f64::INFINITY, 0.0] {
            let heats = vec![Some(Heats::Same(Heat { teacher: 1.0, student: bad }))];
            let problem = Decided { heats, ..good.clone() }.check().unwrap_err();
            assert!(problem.contains(&format!("temperatures answers {bad}")), "{problem}");
        }
        let problem = Decided { second: Some(vec![1.0, f32::NAN]), ..good }.check().unwrap_err();
        assert!(problem.contains("weights answers NaN"), "{problem}");
    }
}
