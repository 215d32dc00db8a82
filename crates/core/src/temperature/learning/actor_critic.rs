//! Proximal policy optimisation (1707.06347) of a temperature at each position.

use super::mlp::{Adam, Mlp};
use crate::rng::CounterRng;
use crate::temperature::agent::Agent;
use crate::temperature::{
    AdaptiveTemperature, RequiredStats, Stat, StepContext, TemperaturePair, Temperatures, TokenStats,
};

/// Number of features of a position: the student's largest probability, the teacher's, and the student's margin.
const SEEN: usize = 3;
const HIDDEN: usize = 32;
/// Standard deviation of the policy, in units of theta.
const SIGMA: f64 = 0.3;
/// Clipping range of the ratio of new to old policy.
const CLIP: f64 = 0.2;
/// Number of updates with one step's choices.
const EPOCHS: usize = 5;
const DISCOUNT: f64 = 0.99;
/// Maximum number of positions of a step to learn from, evenly spaced: more of them carry little extra information.
const LEARNED: usize = 256;
/// Scale of the rewards, which are small differences between shares of positions.
const REWARD: f64 = 10.0;

/// A choice: the features, and theta's distance from the actor's mean and from 0.
type Choice = [f64; SEEN + 2];

/// State of the rule.
pub(in crate::temperature) struct ActorCritic {
    config: Agent,
    seed: u64,
    actor: Mlp,
    critic: Mlp,
    adams: [Adam; 2],
    /// Number of steps so far.
    step: u64,
    /// Share of correct first choices in the last context, and the choices made there, which are not yet rewarded.
    share: f64,
    pending: Vec<Choice>,
}

impl ActorCritic {
    pub(in crate::temperature) fn new(config: Agent, seed: u64) -> Self {
        let mlp = |part| Mlp::new(SEEN, HIDDEN, 0.0, &mut CounterRng::new("logitcask agent", &[seed, part]));
        let (actor, critic) = (mlp(0), mlp(1));
        let adam = || Adam::new(actor.parameters.len());
        Self { config, seed, adams: [adam(), adam()], actor, critic, step: 0, share: 0.0, pending: Vec::new() }
    }

    /// Learns from the choices of the last context, given the `share` of correct first choices in this one.
    fn learn_from(&mut self, share: f64, positions: &[TokenStats]) {
        if self.pending.is_empty() {
            return;
        }
        let ahead = positions.iter().map(|p| self.critic.forward(&seen(p)).0).sum::<f64>() / positions.len() as f64;
        let expected = REWARD * (share - self.share) + DISCOUNT * ahead;
        let values: Vec<f64> = self.pending.iter().map(|choice| self.critic.forward(&choice[..SEEN]).0).collect();
        let n = self.pending.len() as f64;
        for _ in 0..EPOCHS {
            let mut of_actor = vec![0.0; self.actor.parameters.len()];
            let mut of_critic = of_actor.clone();
            for (choice, value) in self.pending.iter().zip(&values) {
                let (input, drawn, theta) = (&choice[..SEEN], choice[SEEN], choice[SEEN + 1]);
                let advantage = expected - value;
                let (mean, hidden) = self.actor.forward(input);
                let off = (theta - mean) / SIGMA;
                // Ratio of two normal densities: the old policy's at `drawn`, the new policy's at `off`.
                let ratio = (0.5 * (drawn * drawn - off * off)).exp();
                let is_clipped = if advantage > 0.0 { ratio > 1.0 + CLIP } else { ratio < 1.0 - CLIP };
                if !is_clipped {
                    self.actor.backward(input, &hidden, advantage * ratio * off / (SIGMA * n), &mut of_actor);
                }
                let (value, hidden) = self.critic.forward(input);
                self.critic.backward(input, &hidden, (expected - value) / n, &mut of_critic);
            }
            self.adams[0].ascend(&mut self.actor.parameters, &of_actor, self.config.learning_rate);
            self.adams[1].ascend(&mut self.critic.parameters, &of_critic, self.config.learning_rate);
        }
    }
}

fn seen(p: &TokenStats) -> [f64; SEEN] {
    [p.student.confidence(), p.teacher.confidence(), p.student.margin()]
}

impl AdaptiveTemperature for ActorCritic {
    fn required_stats(&self) -> RequiredStats {
        RequiredStats::of(&[Stat::TeacherConfidence, Stat::StudentConfidence, Stat::StudentSecond, Stat::StudentLabel])
    }

    fn decide(&mut self, context: &StepContext<'_>) -> Temperatures {
        let t = context.temperature.clamp(self.config.lowest, self.config.highest);
        if context.positions.is_empty() {
            // A step with labels only: there is no share to reward, and none to compare the next one with.
            self.pending.clear();
            return Temperatures::Shared(TemperaturePair::same(t));
        }
        let right = context.positions.iter().filter(|p| p.is_right).count();
        let share = right as f64 / context.positions.len() as f64;
        self.learn_from(share, context.positions);
        (self.share, self.pending) = (share, Vec::new());
        self.step += 1;
        if context.progress < self.config.explore {
            return Temperatures::Shared(TemperaturePair::same(t));
        }
        let stride = context.positions.len().div_ceil(LEARNED);
        let mut temperatures = Vec::with_capacity(context.positions.len());
        let drawn = CounterRng::new("logitcask agent draw", &[self.seed, self.step]).normal();
        for (i, position) in context.positions.iter().enumerate() {
            let input = seen(position);
            let theta = self.actor.forward(&input).0 + SIGMA * drawn;
            temperatures.push(TemperaturePair::same(self.config.temperature(theta)));
            if i % stride == 0 {
                let [a, b, c] = input;
                self.pending.push([a, b, c, drawn, theta]);
            }
        }
        Temperatures::PerToken(temperatures)
    }

    fn state(&self) -> Vec<f64> {
        let fixed: [&[f64]; 5] = [
            &[self.step as f64, self.share],
            &self.actor.parameters,
            &self.critic.parameters,
            &self.adams[0].state,
            &self.adams[1].state,
        ];
        fixed.into_iter().chain([self.pending.as_flattened()]).flatten().copied().collect()
    }

    fn restore(&mut self, state: &[f64]) -> bool {
        let fixed = self.state().len() - self.pending.as_flattened().len();
        let Some((fixed, choices)) = state.split_at_checked(fixed) else { return false };
        let (choices, []) = choices.as_chunks() else { return false };
        self.pending = choices.to_vec();
        (self.step, self.share) = (fixed[0] as u64, fixed[1]);
        let [first, second] = &mut self.adams;
        let mut rest = &fixed[2..];
        for part in [&mut self.actor.parameters, &mut self.critic.parameters, &mut first.state, &mut second.state] {
            let (stored, after) = rest.split_at(part.len());
            part.copy_from_slice(stored);
            rest = after;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temperature::LogitStats;

    const CONFIG: Agent = Agent { lowest: 1.0, highest: 9.0, learning_rate: 0.01, explore: 0.1 };

    /// Positions of which so large a share is right.
    fn positions(right: f64, step: u64) -> Vec<TokenStats> {
        let mut rng = CounterRng::new("agent test", &[step]);
        let mut facts = |_| LogitStats { log_z: 0.0, largest: -rng.uniform(), second: -2.0, ..LogitStats::default() };
        let of = |i: u32, student, teacher| TokenStats {
            student,
            teacher,
            is_right: f64::from(i) < right * 64.0,
            ..TokenStats::default()
        };
        (0..64).map(|i| of(i, facts(0), facts(1))).collect()
    }

    fn step(agent: &mut ActorCritic, progress: f64, right: f64, step: u64) -> Vec<f64> {
        let positions = positions(right, step);
        let context = StepContext { progress, temperature: 4.0, vocab_size: 100, positions: &positions };
        match agent.decide(&context) {
            Temperatures::PerToken(temperatures) => temperatures.iter().map(|pair| pair.teacher).collect(),
            Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. } => vec![pair.teacher],
        }
    }

    fn mean(temperatures: &[f64]) -> f64 {
        temperatures.iter().sum::<f64>() / temperatures.len() as f64
    }

    /// The mean temperature of the last steps of a game in which the share of right choices says how near the last step's
    /// temperatures were to `best`.
    fn played(best: f64) -> f64 {
        let mut agent = ActorCritic::new(CONFIG, 3);
        let mut share = 0.5;
        let mut all = Vec::new();
        for i in 0..600 {
            all.push(mean(&step(&mut agent, 0.5, share, i)));
            share = 0.9 - 0.1 * (all[all.len() - 1] - best).abs();
        }
        mean(&all[500..])
    }

    #[test]
    fn it_moves_towards_what_is_rewarded() {
        let (low, high) = (played(2.0), played(8.0));
        assert!(low < 4.0 && high > 6.0, "{low} and {high}, from 5");
    }

    #[test]
    fn it_waits_and_stays_in_bounds() {
        let mut agent = ActorCritic::new(CONFIG, 0);
        assert_eq!(step(&mut agent, 0.05, 0.5, 0), [4.0], "the recipe's temperature before it takes over");
        let temperatures = step(&mut agent, 0.1, 0.5, 1);
        assert_eq!(temperatures.len(), 64);
        assert!(temperatures.iter().all(|t| (1.0..=9.0).contains(t)));
        assert!((mean(&temperatures) - 5.0).abs() < 2.0, "it begins in the middle");
    }

    #[test]
    fn a_recipe_beyond_its_range_is_brought_into_it() {
        for (temperature, expected) in [(0.5, 1.0), (40.0, 9.0)] {
            let positions = positions(0.5, 0);
            let context = StepContext { progress: 0.0, temperature, vocab_size: 100, positions: &positions };
            assert_eq!(
                ActorCritic::new(CONFIG, 0).decide(&context),
                Temperatures::Shared(TemperaturePair::same(expected))
            );
        }
    }

    #[test]
    fn a_step_without_positions_harms_nothing() {
        let mut agent = ActorCritic::new(CONFIG, 0);
        step(&mut agent, 0.5, 0.5, 0);
        let context = StepContext { progress: 0.5, temperature: 4.0, vocab_size: 100, positions: &[] };
        assert_eq!(agent.decide(&context), Temperatures::Shared(TemperaturePair::same(4.0)));
        for i in 1..3 {
            assert!(step(&mut agent, 0.5, 0.6, i).iter().all(|t| (1.0..=9.0).contains(t)));
        }
    }

    #[test]
    fn a_resumed_agent_replays_bit_for_bit() {
        let share = |i: u64| (i as f64 * 0.7).sin().abs();
        let mut whole = ActorCritic::new(CONFIG, 9);
        let all: Vec<Vec<f64>> = (0..12).map(|i| step(&mut whole, 0.5, share(i), i)).collect();
        let mut first = ActorCritic::new(CONFIG, 9);
        (0..5).for_each(|i| drop(step(&mut first, 0.5, share(i), i)));
        let mut second = ActorCritic::new(CONFIG, 9);
        assert!(second.restore(&first.state()));
        assert_eq!((5..12).map(|i| step(&mut second, 0.5, share(i), i)).collect::<Vec<_>>(), all[5..]);
        let before = second.state();
        assert!(!second.restore(&first.state()[..100]) && second.state() == before, "refused, and left as it was");
        let mut other = ActorCritic::new(CONFIG, 10);
        assert_ne!(step(&mut other, 0.5, share(0), 0), all[0], "the seed decides");
    }
}
