//! Temperature and weight rules of a run.

use crate::decisions::TokenDecisions;
use crate::loss::check::temperatures;
use crate::loss::{LossAtStep, LossConfig, LossTerm, TermAtStep};
use crate::target_spec::TargetSpec;
use logitcask_core::divergence::Properties;
use logitcask_core::temperature::{
    AdaptiveTemperature, RequiredStats, Stat, StatSource, StepContext, StepFeedback, TemperaturePair, Temperatures,
    TokenStats,
};
use logitcask_core::token_weight::TokenWeighting;
use logitcask_core::{TailPolicy, Truncation};

/// The loss of a run together with the state of its rules.
pub struct Rules {
    config: LossConfig,
    /// The temperature rule of each term.
    temperature_rules: Vec<Option<Box<dyn AdaptiveTemperature>>>,
    weighting: Option<Box<dyn TokenWeighting>>,
    /// Rule for the share of a second teacher.
    blend: Option<Box<dyn TokenWeighting>>,
    /// Temperatures at which the rows are accurate.
    range: (f64, f64),
    vocab_size: usize,
    /// Statistics that are needed in addition to those of the rules.
    watched: RequiredStats,
}

/// Results of a step for its rules; sums are over its positions.
#[derive(Debug, Default)]
pub struct StepTotals {
    /// Sum of the divergence of each term.
    pub divergences: Vec<f64>,
    /// Sum of the student's cross entropy.
    pub cross_entropy: f64,
    /// Sum of the teacher's cross entropy.
    pub teacher_cross_entropy: f64,
    /// d (sum of the loss) / d T of each term at each position, if it was requested.
    pub slopes: Vec<Vec<f64>>,
}

impl StepTotals {
    /// d (mean of a term) / d T at each position.
    fn mean_slopes(&self, term: usize, positions: usize) -> Vec<f64> {
        self.slopes.get(term).into_iter().flatten().map(|slope| slope / positions as f64).collect()
    }

    /// The results of a term over `positions` positions, for a rule that requests these statistics.
    fn feedback<'a>(
        &self,
        term: usize,
        positions: usize,
        required: RequiredStats,
        slopes: &'a [f64],
    ) -> StepFeedback<'a> {
        let n = positions as f64;
        let asked = |sum: f64| if required.contains(Stat::CrossEntropy) { sum / n } else { f64::NAN };
        StepFeedback {
            divergence: self.divergences.get(term).map_or(0.0, |sum| sum / n),
            cross_entropy: asked(self.cross_entropy),
            teacher_cross_entropy: asked(self.teacher_cross_entropy),
            slopes: Some(slopes).filter(|_| required.contains(Stat::Slopes)),
        }
    }
}

impl Rules {
    /// Creates the initial rules of `config` for rows of `vocab_size` classes with the truncations `keeps`, one for each
    /// cache; none means that there are labels only.
    pub fn new<'a>(
        config: &LossConfig,
        seed: u64,
        keeps: impl IntoIterator<Item = &'a Truncation>,
        vocab_size: usize,
    ) -> Self {
        // Rules stay within the range of every cache.
        let common = |a: (f64, f64), b: (f64, f64)| (a.0.max(b.0), a.1.min(b.1));
        let is_taught = config.needs_teacher();
        let rule = |(i, term): (usize, LossTerm)| {
            term.temperature_rule.filter(|_| is_taught).map(|rule| rule.start(seed.wrapping_add(i as u64)))
        };
        Self {
            temperature_rules: config.terms().enumerate().map(rule).collect(),
            weighting: config.token_weight.filter(|_| is_taught).map(|weigh| weigh.start()),
            blend: config
                .second_teacher
                .as_ref()
                .filter(|_| is_taught)
                .map(|second| Box::new(second.blend) as Box<dyn TokenWeighting>),
            range: keeps.into_iter().map(temperatures).reduce(common).unwrap_or((1.0, 1.0)),
            config: config.clone(),
            vocab_size,
            watched: RequiredStats::NONE,
        }
    }

    /// Requests further statistics besides those of the rules.
    pub fn watch(&mut self, needs: RequiredStats) {
        self.watched = self.watched.or(needs);
    }

    /// The union of all requested statistics.
    pub fn needs(&self) -> RequiredStats {
        let temperature_rules = self.temperature_rules.iter().flatten().map(|rule| rule.required_stats());
        let weightings = self.weighting.iter().chain(&self.blend).map(|weighting| weighting.required_stats());
        temperature_rules.chain(weightings).fold(self.watched, RequiredStats::or)
    }

    /// What is read of a row at any step; `None` means labels only.
    pub fn spec(&self) -> Option<TargetSpec> {
        if !self.config.needs_teacher() {
            return None;
        }
        let needs = self.needs();
        let properties = |term: LossTerm| [term.divergence.needs_label(), term.divergence.needs_logits()];
        let [needs_label, needs_logits] =
            self.config.terms().map(properties).fold([false; 2], |all, one| [all[0] | one[0], all[1] | one[1]]);
        Some(TargetSpec {
            include_sampled: self.config.tail == TailPolicy::Sampled,
            classes: self.config.classes,
            target: self.config.target,
            label: needs_label,
            stats: needs.needs_positions() || needs.needs(StatSource::Targets) || needs_logits,
            entropy: needs.target_entropy().map(|nats| (nats, self.range)),
            similarity: None,
        })
    }

    /// The loss once the share `done` of the run is completed.
    pub fn loss(&self, done: f64) -> LossAtStep {
        let needs = self.needs();
        let term = |(i, term): (usize, LossTerm)| {
            let rule = self.temperature_rules[i].as_deref();
            let teacher = term.temperature.at(done);
            TermAtStep {
                factor: term.factor.at(done),
                divergence: term.divergence,
                temperatures: TemperaturePair {
                    teacher,
                    student: term.student_temperature.map_or(teacher, |curve| curve.at(done)),
                },
                scale: term.scale,
                tail: term.tail,
                needs_slopes: self.required_by_term(i, rule).contains(Stat::Slopes),
            }
        };
        LossAtStep {
            alpha: self.config.alpha.at(done),
            terms: self.config.terms().enumerate().map(term).collect(),
            needs_cross_entropy: needs.contains(Stat::CrossEntropy),
        }
    }

    /// Returns the temperatures and weights of a step of `count` positions. `positions` holds the statistics of all of
    /// them if [`Self::needs`] requests any, and is empty otherwise.
    pub fn decide(&mut self, done: f64, positions: &[TokenStats], count: usize) -> TokenDecisions {
        // Each rule receives only the statistics that it requests.
        let told = |required: RequiredStats| positions.iter().map(|position| position.only(&required)).collect();
        let vocab_size = self.vocab_size;
        let mut temperatures = Vec::new();
        for (term, rule) in self.config.terms().zip(&mut self.temperature_rules) {
            temperatures.push(rule.as_mut().map(|rule| {
                let (temperature, positions): (f64, Vec<TokenStats>) =
                    (term.temperature.at(done), told(rule.required_stats()));
                let decisions =
                    rule.decide(&StepContext { progress: done, temperature, vocab_size, positions: &positions });
                within(decisions, self.range)
            }));
        }
        let weigh = |weighting: &mut Option<Box<dyn TokenWeighting>>| {
            let weighting = weighting.as_mut()?;
            let positions: Vec<TokenStats> = told(weighting.required_stats());
            Some(weighting.weights(&StepContext {
                progress: done,
                temperature: 1.0,
                vocab_size,
                positions: &positions,
            }))
        };
        let (weights, shares) = (weigh(&mut self.weighting), weigh(&mut self.blend));
        let Some(shares) = shares else {
            return TokenDecisions { temperatures, weights: weights.map(narrow), second: None };
        };
        let each = |i: usize| {
            // A rule that does not depend on the position returns a single share for all.
            let share = shares.get(i).or(shares.first()).copied().unwrap_or_default();
            let weight = weights.as_ref().map_or(1.0, |weights| weights[i]);
            (weight * (1.0 - share), weight * share)
        };
        let (first, second) = (0..count).map(each).unzip();
        TokenDecisions { temperatures, weights: Some(narrow(first)), second: Some(narrow(second)) }
    }

    /// Passes the results of a step over `positions` positions to the rules.
    pub fn observe(&mut self, totals: &StepTotals, positions: usize) {
        for (i, rule) in self.temperature_rules.iter_mut().enumerate() {
            let Some(rule) = rule else { continue };
            let slopes = totals.mean_slopes(i, positions);
            rule.observe(&totals.feedback(i, positions, rule.required_stats(), &slopes));
        }
        for weighting in self.weighting.iter_mut().chain(&mut self.blend) {
            let slopes = totals.mean_slopes(0, positions);
            weighting.observe(&totals.feedback(0, positions, weighting.required_stats(), &slopes));
        }
    }

    /// The statistics that are needed of a term: those of its own rule, and for the first term those of weight rules.
    fn required_by_term(&self, term: usize, rule: Option<&dyn AdaptiveTemperature>) -> RequiredStats {
        let weightings = self.weighting.iter().chain(&self.blend).filter(|_| term == 0);
        let of_rule = rule.map_or(RequiredStats::NONE, AdaptiveTemperature::required_stats);
        weightings.fold(of_rule, |all, weighting| all.or(weighting.required_stats()))
    }

    /// The complete state of all rules, one list per rule.
    pub fn state(&self) -> Vec<Vec<f64>> {
        let temperature_rules = self.temperature_rules.iter().flatten().map(|rule| rule.state());
        let weightings = self.weighting.iter().chain(&self.blend);
        temperature_rules.chain(weightings.map(|weighting| weighting.state())).collect()
    }

    /// Restores what [`Self::state`] returned; returns `false` if that belongs to other rules.
    pub fn restore(&mut self, state: &[Vec<f64>]) -> bool {
        let mut state = state.iter();
        let temperature_rules =
            self.temperature_rules.iter_mut().flatten().all(|rule| state.next().is_some_and(|s| rule.restore(s)));
        let mut weightings = self.weighting.iter_mut().chain(&mut self.blend);
        let weightings = weightings.all(|weighting| state.next().is_some_and(|s| weighting.restore(s)));
        temperature_rules && weightings && state.next().is_none()
    }
}

fn narrow(wide: Vec<f64>) -> Vec<f32> {
    wide.into_iter().map(|x| x as f32).collect()
}

/// Clamps temperatures to the range at which the rows are accurate.
fn within(temperatures: Temperatures, (low, high): (f64, f64)) -> Temperatures {
    let clamp = |pair: TemperaturePair| TemperaturePair { teacher: pair.teacher.clamp(low, high), ..pair };
    match temperatures {
        Temperatures::Shared(pair) => Temperatures::Shared(clamp(pair)),
        Temperatures::PerToken(temperatures) => Temperatures::PerToken(temperatures.into_iter().map(clamp).collect()),
        Temperatures::TimesLogitStd { pair, range } => {
            Temperatures::TimesLogitStd { pair, range: (range.0.max(low), range.1.min(high)) }
        }
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
