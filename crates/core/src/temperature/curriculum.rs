//! A temperature that is learned against the student.

use super::learning::{Adam, Mlp};
use super::{
    AdaptiveTemperature, RequiredStats, Rule, Stat, StepContext, StepFeedback, TemperaturePair, Temperatures, TokenStats,
    check_positive, check_range,
};
use crate::ConfigError;
use crate::rng::CounterRng;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Number of features of a position that the perceptron receives.
const FEATURES: usize = 7;
const HIDDEN: usize = 16;
/// Initial theta, as in the paper: T starts at lowest + 0.73 (highest - lowest).
const START: f64 = 1.0;

/// A temperature that learns to make the student's task harder (CTKD, 2211.16231).
///
/// T = lowest + (highest - lowest) sigmoid(theta). The student minimises the loss and theta maximises it, with a
/// strength that grows over the first share `ramp` of the run along half a cosine from 0 to 1. Theta is one number, or
/// with `instance` the output of a perceptron on the teacher's and the student's statistics at the position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curriculum {
    /// Lower bound of the temperature.
    pub lowest: f64,
    /// Upper bound of the temperature.
    pub highest: f64,
    /// Whether each position has its own temperature.
    #[serde(default)]
    pub instance: bool,
    /// Learning rate of Adam, in units of theta: with 0.01, a hundred steps in one direction change theta by 1. A plain
    /// gradient step, as in the paper, would depend on the scale of the loss.
    #[serde(default = "hundredth")]
    pub learning_rate: f64,
    /// Share of the run until the full strength is reached.
    #[serde(default = "tenth")]
    pub ramp: f64,
}

const fn hundredth() -> f64 {
    0.01
}
const fn tenth() -> f64 {
    0.1
}

#[cfg(test)]
impl super::Tested for Curriculum {
    const TESTED: Self = Self { lowest: 1.0, highest: 9.0, instance: true, learning_rate: 0.01, ramp: 0.1 };
}

impl Rule for Curriculum {
    fn check(&self) -> Result<(), ConfigError> {
        check_range(self.lowest, self.highest)?;
        check_positive("learning_rate", self.learning_rate)?;
        ConfigError::unless((0.0..=1.0).contains(&self.ramp), "ramp", self.ramp, "a share of the run, 0 to 1")
    }

    fn range(&self) -> Option<(f64, f64)> {
        Some((self.lowest, self.highest))
    }

    fn start(&self, seed: u64) -> Box<dyn AdaptiveTemperature> {
        Box::new(Learner::new(*self, seed))
    }
}

impl Curriculum {
    /// Strength of the updates of theta once the share `progress` of the run is completed.
    fn strength(&self, progress: f64) -> f64 {
        if progress >= self.ramp { 1.0 } else { 0.5 - 0.5 * (PI * progress / self.ramp).cos() }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// State of the rule. A single theta is a perceptron without inputs: its last bias.
struct Learner {
    config: Curriculum,
    mlp: Mlp,
    adam: Adam,
    /// For the last context: the strength of the update, and the features of each position.
    strength: f64,
    seen: Vec<[f64; FEATURES]>,
}

impl Learner {
    fn new(config: Curriculum, seed: u64) -> Self {
        let (inputs, hidden) = if config.instance { (FEATURES, HIDDEN) } else { (1, 0) };
        let mlp = Mlp::new(inputs, hidden, START, &mut CounterRng::new("logitcask curriculum", &[seed]));
        let adam = Adam::new(mlp.parameters.len());
        Self { config, mlp, adam, strength: 0.0, seen: Vec::new() }
    }

    fn temperature(&self, theta: f64) -> f64 {
        self.config.lowest + (self.config.highest - self.config.lowest) * sigmoid(theta)
    }

    /// d T / d theta.
    fn slope(&self, theta: f64) -> f64 {
        let s = sigmoid(theta);
        (self.config.highest - self.config.lowest) * s * (1.0 - s)
    }

    /// d loss / d parameters, from d loss / d T at each position of the last context.
    fn gradient(&self, slopes: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.mlp.parameters.len()];
        let mut add = |input: &[f64], slope: f64| {
            let (theta, hidden) = self.mlp.forward(input);
            self.mlp.backward(input, &hidden, slope * self.slope(theta), &mut gradient);
        };
        match self.config.instance {
            true => self.seen.iter().zip(slopes).for_each(|(x, slope)| add(x, *slope)),
            false => add(&[], slopes.iter().sum()),
        }
        gradient
    }
}

fn features(p: &TokenStats) -> [f64; FEATURES] {
    [
        p.teacher.confidence().ln(),
        p.teacher.entropy,
        p.teacher.label,
        p.student.confidence().ln(),
        p.student.entropy,
        p.student.label,
        p.distance,
    ]
}

impl AdaptiveTemperature for Learner {
    fn required_stats(&self) -> RequiredStats {
        let of_positions = [
            Stat::TeacherConfidence,
            Stat::TeacherEntropy,
            Stat::TeacherLabel,
            Stat::StudentConfidence,
            Stat::StudentEntropy,
            Stat::StudentLabel,
            Stat::Distance,
        ];
        let of_positions = if self.config.instance { RequiredStats::of(&of_positions) } else { RequiredStats::NONE };
        RequiredStats::of(&[Stat::Slopes]).or(of_positions)
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        self.strength = self.config.strength(context.progress);
        if !self.config.instance {
            return Temperatures::Shared(TemperaturePair::same(self.temperature(self.mlp.forward(&[]).0)));
        }
        self.seen = context.positions.iter().map(features).collect();
        Temperatures::PerToken(
            self.seen.iter().map(|x| TemperaturePair::same(self.temperature(self.mlp.forward(x).0))).collect(),
        )
    }

    fn observe(&mut self, outcome: &StepFeedback<'_>) {
        let slopes = outcome.slopes.unwrap_or_else(|| unreachable!("a rule is told what it asks for"));
        let gradient = self.gradient(slopes);
        let rate = self.config.learning_rate * self.strength;
        self.adam.ascend(&mut self.mlp.parameters, &gradient, rate);
    }

    fn state(&self) -> Vec<f64> {
        [self.mlp.parameters.as_slice(), &self.adam.state].concat()
    }

    fn restore(&mut self, state: &[f64]) -> bool {
        let parameters = self.mlp.parameters.len();
        if state.len() != parameters + self.adam.state.len() {
            return false;
        }
        self.mlp.parameters.copy_from_slice(&state[..parameters]);
        self.adam.state.copy_from_slice(&state[parameters..]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temperature::LogitStats;

    const CONFIG: Curriculum = Curriculum { lowest: 1.0, highest: 9.0, instance: false, learning_rate: 0.01, ramp: 0.1 };

    fn context(positions: &[TokenStats], progress: f64) -> StepContext<'_> {
        StepContext { progress, temperature: 1.0, vocab_size: 100, positions }
    }

    fn temperature(rule: &mut Learner, progress: f64) -> f64 {
        let Temperatures::Shared(pair) = rule.decide(&context(&[], progress)) else { panic!("one for all") };
        pair.teacher
    }

    /// The temperature after a run whose loss has this slope along it.
    fn after(slope: f64, steps: u32, progress: f64) -> f64 {
        let mut rule = Learner::new(CONFIG, 0);
        for _ in 0..steps {
            temperature(&mut rule, progress);
            rule.observe(&StepFeedback { slopes: Some(&[slope, slope]), ..StepFeedback::default() });
        }
        temperature(&mut rule, progress)
    }

    #[test]
    fn the_temperature_goes_where_the_loss_rises() {
        let start = after(0.0, 0, 1.0);
        assert!((start - (1.0 + 8.0 * sigmoid(1.0))).abs() < 1e-12);
        assert!(after(0.5, 50, 1.0) > start + 0.3);
        assert!(after(-0.5, 50, 1.0) < start - 0.3);
        assert_eq!(after(0.5, 50, 0.0), start, "without strength it is a fixed temperature");
        assert!((CONFIG.strength(0.05) - 0.5).abs() < 1e-12 && CONFIG.strength(0.1) == 1.0);
        assert!((1.0..=9.0).contains(&after(1e6, 5000, 1.0)));
    }

    #[test]
    fn instances_part_where_their_slopes_do() {
        let at = |distance| TokenStats { distance, ..TokenStats::default() };
        let positions = [at(0.1), at(0.9)];
        let mut rule = Learner::new(Curriculum { instance: true, ..CONFIG }, 0);
        let temperatures = |rule: &mut Learner| {
            let Temperatures::PerToken(temperatures) = rule.decide(&context(&positions, 1.0)) else {
                panic!("one for each")
            };
            [temperatures[0].teacher, temperatures[1].teacher]
        };
        let [a, b] = temperatures(&mut rule);
        assert_eq!(a, b, "all alike at first");
        for _ in 0..300 {
            temperatures(&mut rule);
            rule.observe(&StepFeedback { slopes: Some(&[-0.5, 0.5]), ..StepFeedback::default() });
        }
        let [a, b] = temperatures(&mut rule);
        assert!(a + 2.0 < b, "{a} and {b}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut rng = CounterRng::new("curriculum test", &[]);
        let mut facts =
            || LogitStats { largest: -rng.uniform(), entropy: rng.uniform(), label: -2.0, ..LogitStats::default() };
        let mut of = |distance| TokenStats { teacher: facts(), student: facts(), distance, ..TokenStats::default() };
        let positions = [of(0.1), of(0.5), of(0.8)];
        let mut rule = Learner::new(Curriculum { instance: true, ..CONFIG }, 0);
        rule.mlp.parameters.iter_mut().for_each(|p| *p += 0.3 * rng.normal());
        // A made-up loss: the mean of (i + 1) T_i².
        let temperatures = |rule: &mut Learner| {
            let Temperatures::PerToken(temperatures) = rule.decide(&context(&positions, 1.0)) else {
                panic!("one for each")
            };
            (1..).map(f64::from).zip(temperatures.into_iter().map(|pair| pair.teacher)).collect::<Vec<_>>()
        };
        let slopes: Vec<f64> = temperatures(&mut rule).iter().map(|(i, t)| 2.0 * i * t / 3.0).collect();
        for (i, exact) in rule.gradient(&slopes).into_iter().enumerate() {
            let start = rule.mlp.parameters[i];
            let mut at = |by: f64| {
                rule.mlp.parameters[i] = start + by;
                temperatures(&mut rule).iter().map(|(i, t)| i * t * t / 3.0).sum::<f64>()
            };
            let found = (at(1e-5) - at(-1e-5)) / 2e-5;
            rule.mlp.parameters[i] = start;
            assert!((exact - found).abs() < 1e-6 * exact.abs().max(1.0), "parameter {i}: {exact}, found {found}");
        }
    }

    #[test]
    fn a_resumed_rule_goes_on_with_the_same_bits() {
        let positions = [TokenStats { distance: 0.3, ..TokenStats::default() }];
        let config = Curriculum { instance: true, ..CONFIG };
        let step = |rule: &mut Learner, i: u32| {
            let temperatures = rule.decide(&context(&positions, 0.5));
            rule.observe(&StepFeedback { slopes: Some(&[f64::from(i).sin()]), ..StepFeedback::default() });
            temperatures
        };
        let mut whole = Learner::new(config, 7);
        let all: Vec<Temperatures> = (0..20).map(|i| step(&mut whole, i)).collect();
        let mut first = Learner::new(config, 7);
        (0..9).for_each(|i| drop(step(&mut first, i)));
        let mut second = Learner::new(config, 7);
        assert!(second.restore(&first.state()) && !second.restore(&[0.0]));
        assert_eq!((9..20).map(|i| step(&mut second, i)).collect::<Vec<_>>(), all[9..]);
    }
}
