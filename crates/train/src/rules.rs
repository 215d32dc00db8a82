//! Rules about temperatures and weights at work beside a run.

use crate::decisions::TokenDecisions;
use crate::loss::check::temperatures;
use crate::loss::{LossAtStep, LossConfig, LossTerm, TermAtStep};
use crate::target_spec::TargetSpec;
use logitcask_core::temperature::{
    AdaptiveTemperature, RequiredStats, StepContext, StepFeedback, TemperaturePair, Temperatures, TokenStats,
};
use logitcask_core::token_weight::TokenWeighting;
use logitcask_core::{Divergence, TailPolicy, TemperatureRule, Truncation};

/// A loss and what it remembers from step to step.
pub struct Rules {
    config: LossConfig,
    /// Of each term, the rule of its temperatures.
    temperature_rules: Vec<Option<Box<dyn AdaptiveTemperature>>>,
    weighting: Option<Box<dyn TokenWeighting>>,
    /// The share of a second teacher.
    blend: Option<Box<dyn TokenWeighting>>,
    /// Temperatures for which the rows answer.
    range: (f64, f64),
    vocab_size: usize,
    /// What others want to be told beside them.
    watched: RequiredStats,
}

/// What came of a step for its rules; sums are over its positions.
#[derive(Debug, Default)]
pub struct StepTotals {
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
    pub fn new(config: &LossConfig, seed: u64, keep: Option<&Truncation>, vocab_size: usize) -> Self {
        let is_taught = config.needs_teacher();
        let rule = |(i, term): (usize, LossTerm)| {
            term.temperature_rule.filter(|_| is_taught)?.start(seed.wrapping_add(i as u64))
        };
        Self {
            temperature_rules: config.terms().enumerate().map(rule).collect(),
            weighting: config.token_weight.filter(|_| is_taught).map(|weigh| weigh.start()),
            blend: config
                .second_teacher
                .as_ref()
                .filter(|_| is_taught)
                .map(|second| Box::new(second.blend) as Box<dyn TokenWeighting>),
            range: keep.map_or((1.0, 1.0), temperatures),
            config: config.clone(),
            vocab_size,
            watched: RequiredStats::NONE,
        }
    }

    /// Somebody beside them wants to be told this too.
    pub fn watch(&mut self, needs: RequiredStats) {
        self.watched = self.watched.or(needs);
    }

    /// What any of them must be told.
    pub fn needs(&self) -> RequiredStats {
        let temperature_rules = self.temperature_rules.iter().flatten().map(|rule| rule.required_stats());
        let weightings = self.weighting.iter().chain(&self.blend).map(|weighting| weighting.required_stats());
        temperature_rules.chain(weightings).fold(self.watched, RequiredStats::or)
    }

    /// What is read of a row, at any step; `None`: labels alone.
    pub fn spec(&self) -> Option<TargetSpec> {
        if !self.config.needs_teacher() {
            return None;
        }
        let needs = self.needs();
        let looks_at_logits = |term: LossTerm| {
            matches!(term.divergence, Divergence::MeanSquares { .. })
                || matches!(term.temperature_rule, Some(TemperatureRule::LogitStd {}))
        };
        Some(TargetSpec {
            include_sampled: self.config.tail == TailPolicy::Sampled,
            classes: self.config.classes,
            // Nothing of a loss asks for the teacher's first choice.
            always_kept: 0,
            target: self.config.target,
            label: self.config.terms().any(|term| term.divergence.needs_label()),
            stats: needs.positions || self.config.terms().any(looks_at_logits),
            entropy: needs.target_entropy.map(|nats| (nats, self.range)),
            similarity: None,
        })
    }

    /// The loss when the share `done` of the run is behind.
    pub fn loss(&self, done: f64) -> LossAtStep {
        let needs = self.needs();
        let term = |(term, rule): (LossTerm, &Option<Box<dyn AdaptiveTemperature>>)| {
            let teacher = term.temperature.at(done);
            TermAtStep {
                factor: term.factor.at(done),
                divergence: term.divergence,
                temperatures: TemperaturePair {
                    teacher,
                    student: term.student_temperature.map_or(teacher, |curve| curve.at(done)),
                },
                spread: matches!(term.temperature_rule, Some(TemperatureRule::LogitStd {})).then_some(self.range),
                scale: term.scale,
                tail: term.tail,
                needs_slopes: rule.as_ref().is_some_and(|rule| rule.required_stats().slopes),
            }
        };
        LossAtStep {
            alpha: self.config.alpha.at(done),
            terms: self.config.terms().zip(&self.temperature_rules).map(term).collect(),
            needs_cross_entropy: needs.cross_entropy,
        }
    }

    /// Temperatures and weights of a step of `count` positions; `positions`: all of them, where [`Self::needs`] asks for
    /// them, else none.
    pub fn decide(&mut self, done: f64, positions: &[TokenStats], count: usize) -> TokenDecisions {
        let context = |temperature| StepContext { progress: done, temperature, vocab_size: self.vocab_size, positions };
        let mut temperatures = Vec::new();
        for (term, rule) in self.config.terms().zip(&mut self.temperature_rules) {
            temperatures.push(rule.as_mut().map(|rule| {
                let decisions = rule.decide(&context(term.temperature.at(done)));
                within(decisions, self.range)
            }));
        }
        let weigh = |weighting: &mut Option<Box<dyn TokenWeighting>>| Some(weighting.as_mut()?.weights(&context(1.0)));
        let (weights, shares) = (weigh(&mut self.weighting), weigh(&mut self.blend));
        let Some(shares) = shares else {
            return TokenDecisions { temperatures, weights: weights.map(narrow), second: None };
        };
        let each = |i: usize| {
            // A rule that looks at no position has one share for all.
            let share = shares.get(i).or(shares.first()).copied().unwrap_or_default();
            let weight = weights.as_ref().map_or(1.0, |weights| weights[i]);
            (weight * (1.0 - share), weight * share)
        };
        let (first, second) = (0..count).map(each).unzip();
        TokenDecisions { temperatures, weights: Some(narrow(first)), second: Some(narrow(second)) }
    }

    /// Tells them what came of a step over so many positions.
    pub fn observe(&mut self, totals: &StepTotals, positions: usize) {
        let n = positions as f64;
        let outcome = |term: usize| StepFeedback {
            divergence: totals.divergences.get(term).map_or(0.0, |sum| sum / n),
            cross_entropy: totals.cross_entropy / n,
            teacher_cross_entropy: totals.teacher_cross_entropy / n,
            slopes: &[],
        };
        for (i, rule) in self.temperature_rules.iter_mut().enumerate() {
            let Some(rule) = rule else { continue };
            let slopes: Vec<f64> = totals.slopes.get(i).into_iter().flatten().map(|slope| slope / n).collect();
            rule.observe(&StepFeedback { slopes: &slopes, ..outcome(i) });
        }
        if let Some(weighting) = &mut self.weighting {
            weighting.observe(&outcome(0));
        }
    }

    /// All they remember, one list a rule.
    pub fn state(&self) -> Vec<Vec<f64>> {
        let temperature_rules = self.temperature_rules.iter().flatten().map(|rule| rule.state());
        temperature_rules.chain(self.weighting.iter().map(|weighting| weighting.state())).collect()
    }

    /// Goes on from what [`Self::state`] gave; `false` where that was of other rules.
    pub fn restore(&mut self, state: &[Vec<f64>]) -> bool {
        let mut state = state.iter();
        let temperature_rules =
            self.temperature_rules.iter_mut().flatten().all(|rule| state.next().is_some_and(|s| rule.restore(s)));
        let weighting = self.weighting.iter_mut().all(|weighting| state.next().is_some_and(|s| weighting.restore(s)));
        temperature_rules && weighting && state.next().is_none()
    }
}

fn narrow(wide: Vec<f64>) -> Vec<f32> {
    wide.into_iter().map(|x| x as f32).collect()
}

/// Temperatures brought to where the rows answer.
fn within(temperatures: Temperatures, (low, high): (f64, f64)) -> Temperatures {
    let clamp = |pair: TemperaturePair| TemperaturePair { teacher: pair.teacher.clamp(low, high), ..pair };
    match temperatures {
        Temperatures::Shared(pair) => Temperatures::Shared(clamp(pair)),
        Temperatures::PerToken(temperatures) => Temperatures::PerToken(temperatures.into_iter().map(clamp).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_temperature_and_no_weight_is_named() {
        let good = TokenDecisions {
            temperatures: vec![
                None,
                Some(Temperatures::PerToken(vec![TemperaturePair::same(2.0), TemperaturePair::same(1.0)])),
            ],
            weights: Some(vec![0.0, 1.5]),
            second: None,
        };
        assert_eq!(good.check(), Ok(()));
        for bad in [f64::NAN, f64::INFINITY, 0.0] {
            let temperatures = vec![Some(Temperatures::Shared(TemperaturePair { teacher: 1.0, student: bad }))];
            let problem = TokenDecisions { temperatures, ..good.clone() }.check().unwrap_err();
            assert!(problem.contains(&format!("temperatures answers {bad}")), "{problem}");
        }
        let problem = TokenDecisions { second: Some(vec![1.0, f32::NAN]), ..good }.check().unwrap_err();
        assert!(problem.contains("weights answers NaN"), "{problem}");
    }
}
