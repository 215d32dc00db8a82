//! Summary of the classes that were not kept as a few pseudo-classes, from which the partition function can be computed
//! at every temperature.
//!
//! The tail is a finite measure. Expressed in u = e^{dz} (z a logit relative to log_z, d a spacing of inverse
//! temperatures) with weights e^{b_0 z}, its partition function at b = b_0 + j d is the j-th moment. An m-point Gauss
//! rule is exact for moments 0..2m, so it is exact at 2m inverse temperatures spread evenly over the whole range and
//! interpolates between them by sums of exponentials. (The Gauss rule in z itself is exact for derivatives at one
//! inverse temperature only; over a range of .75..10 its worst error is three times as large at equal m.)

use crate::ConfigError;
use crate::atom_rounding::round_coarsely;
use crate::math::log_sum_exp;
use crate::quadrature::gauss;
use serde::{Deserialize, Serialize};

/// Unit of an atom's numbers, in nats: an i16 covers ±64 nats. Most logits are rounded to larger steps, see
/// [`crate::atom_rounding`].
pub const ATOM_STEP: f64 = 1.0 / 512.0;
/// Maximum number of atoms per row.
pub(crate) const MAX_ATOMS: u32 = 8;

/// How the tail is summarised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailRule {
    /// Lowest temperature at which the atoms are accurate; at most 1.
    pub lowest_temperature: f64,
    /// Highest temperature at which the atoms are accurate; at least 1.
    pub highest_temperature: f64,
    /// Number of atoms at each position.
    pub atoms: u32,
}

/// A pseudo-class of the tail, in units of [`ATOM_STEP`]: at inverse temperature b it adds exp(log_weight + (b -
/// reference) log_prob) to Z(b) / e^{b log_z}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailAtom {
    /// Its logit relative to log_z.
    pub log_prob: i16,
    /// Log of the sum of e^{reference z} over the classes it represents.
    pub log_weight: i16,
}

impl TailAtom {
    /// An unused atom, which fills a row whose tail has fewer points than atoms.
    pub const NONE: Self = Self { log_prob: i16::MIN, log_weight: i16::MIN };

    /// Rounds; values beyond 64 nats are clamped to the end of the range, where they have no weight.
    pub fn new(log_prob: f64, log_weight: f64) -> Self {
        // MIN is reserved for `NONE`.
        let fixed = |x: f64| (x / ATOM_STEP).round().clamp(f64::from(i16::MIN + 1), f64::from(i16::MAX)) as i16;
        Self { log_prob: fixed(log_prob), log_weight: fixed(log_weight) }
    }

    /// Log of its contribution at `b`; negative infinity for [`Self::NONE`].
    pub fn log_term(self, b: f64, reference: f64) -> f64 {
        if self == Self::NONE {
            return f64::NEG_INFINITY;
        }
        ATOM_STEP * (f64::from(self.log_weight) + (b - reference) * f64::from(self.log_prob))
    }
}

impl TailRule {
    /// Inverse temperature at which the atoms' weights are stated: the geometric mean of the range's ends.
    pub fn reference(&self) -> f64 {
        (1.0 / (self.highest_temperature * self.lowest_temperature)).sqrt()
    }

    /// The lowest inverse temperature at which the rule is exact, and the spacing of these inverse temperatures.
    pub fn knots(&self) -> (f64, f64) {
        let (low, high) = (1.0 / self.highest_temperature, 1.0 / self.lowest_temperature);
        (low, (high - low) / f64::from(2 * self.atoms - 1))
    }

    /// Inverse temperatures at which a writer measures the error, ascending: the knots and the midpoints between them,
    /// where the error is largest, 4 · atoms - 1 in all.
    pub fn grid(&self) -> Vec<f64> {
        let (low, distance) = self.knots();
        (0..4 * self.atoms - 1).map(|j| low + f64::from(j) * distance / 2.0).collect()
    }

    /// Rejects ranges that do not contain 1, the temperature of the stored numbers, and useless numbers of atoms.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (low, high, atoms) = (self.lowest_temperature, self.highest_temperature, self.atoms);
        ConfigError::unless((0.05..=1.0).contains(&low), "lowest_temperature", low, "0.05 to 1")?;
        ConfigError::unless((1.0..=1000.0).contains(&high), "highest_temperature", high, "1 to 1000")?;
        ConfigError::unless(low < high, "highest_temperature", high, format!("above {low}, the lowest temperature"))?;
        ConfigError::unless((1..=MAX_ATOMS).contains(&atoms), "atoms", atoms, format!("1 to {MAX_ATOMS}"))
    }

    /// Computes the atoms of tail classes from their logits relative to log_z, in f64: the reference for the fast
    /// selection.
    pub fn atoms_reference(&self, tail: &[f64]) -> Vec<TailAtom> {
        let (low, distance) = self.knots();
        let top = tail.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let points: Vec<f64> = tail.iter().map(|z| (distance * (z - top)).exp()).collect();
        let weights: Vec<f64> = tail.iter().map(|z| (low * (z - top)).exp()).collect();
        self.atoms_of_rule(&gauss(&points, &weights, self.atoms as usize), top)
    }

    /// Converts a quadrature rule in u = e^{d (z - top)} with weights e^{b_0 (z - top)}, (b_0, d) = [`Self::knots`], to
    /// atoms, largest logit first.
    pub fn atoms_of_rule(&self, rule: &[(f64, f64)], top: f64) -> Vec<TailAtom> {
        let (low, distance) = self.knots();
        let mut exact: Vec<(f64, f64)> = rule
            .iter()
            .filter(|(u, weight)| *u > 0.0 && *weight > 0.0)
            .map(|(u, weight)| {
                let z = top + u.ln() / distance;
                (z, weight.ln() + low * top + (self.reference() - low) * z)
            })
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rounded = round_coarsely(self, &exact).unwrap_or(exact);
        let mut atoms: Vec<TailAtom> = rounded.iter().map(|&(z, log_weight)| TailAtom::new(z, log_weight)).collect();
        atoms.sort_by(|a, b| b.log_prob.cmp(&a.log_prob).then(b.log_weight.cmp(&a.log_weight)));
        atoms.resize(self.atoms as usize, TailAtom::NONE);
        atoms
    }
}

/// Summary of the classes that were not kept: atoms, and kept classes that a reader moved to the tail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tail<'a> {
    /// [`TailRule::reference`].
    pub reference: f64,
    /// Empty if every class was kept.
    pub atoms: &'a [TailAtom],
    /// Log-probabilities at T = 1 of the classes that a reader moved to the tail.
    pub joined: &'a [f32],
    /// Log-probability at T = 1 of a class that the atoms include but that a reader treats individually.
    pub without: Option<f32>,
    /// What is known if there are no atoms.
    pub known: KnownTail,
}

/// What is known of a tail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum KnownTail {
    /// All that its atoms and single classes say; without any it is empty.
    #[default]
    Shape,
    /// Its total probability at T = 1 alone.
    Mass {
        /// The log of it; negative infinity if the kept classes leave nothing.
        log_mass: f64,
    },
    /// Nothing.
    Nothing,
}

/// Lower bound of the share of a tail that remains after a class is removed: the atoms' rounding could otherwise make
/// it negative.
pub const LEAST_LEFT: f64 = 1e-4;

impl Tail<'_> {
    /// Log of the sum over the tail of e^{b (z - log_z)}; negative infinity for an empty tail, and NaN where it is not
    /// known.
    pub fn log_partition(&self, b: f64) -> f64 {
        if self.known == KnownTail::Nothing || (self.known != KnownTail::Shape && b != 1.0) {
            return f64::NAN;
        }
        let all = log_sum_exp(&self.terms(b).map(|(log_term, _)| log_term).collect::<Vec<_>>());
        match self.without {
            Some(log_prob) => all + (1.0 - (b * f64::from(log_prob) - all).exp()).max(LEAST_LEFT).ln(),
            None => all,
        }
    }

    /// Log of each pseudo-class's contribution at `b`, and its logit relative to log_z (NaN if it is not known); a class
    /// that was removed is still included.
    pub(crate) fn terms(&self, b: f64) -> impl Iterator<Item = (f64, f64)> {
        let reference = self.reference;
        let atom = move |a: &TailAtom| (a.log_term(b, reference), ATOM_STEP * f64::from(a.log_prob));
        let single = move |lp: &f32| (b * f64::from(*lp), f64::from(*lp));
        let rest = match self.known {
            KnownTail::Shape => None,
            KnownTail::Mass { log_mass } => Some((if b == 1.0 { log_mass } else { f64::NAN }, f64::NAN)),
            KnownTail::Nothing => Some((f64::NAN, f64::NAN)),
        };
        self.atoms.iter().map(atom).chain(self.joined.iter().map(single)).chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom_rounding::LOG_WEIGHT_STEP;
    use crate::rng::CounterRng;
    use proptest::prelude::*;

    const RULE: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };

    /// Logits as language models have them: a bell with a long upper end, relative to log_z.
    fn tail(seed: u64, n: usize) -> Vec<f64> {
        let mut rng = CounterRng::new("tail test", &[seed]);
        let spread = 1.0 + 3.0 * rng.uniform();
        (0..n).map(|_| -14.0 + spread * rng.normal() + 0.5 * rng.normal().abs().powi(2)).collect()
    }

    fn exact(tail: &[f64], b: f64) -> f64 {
        log_sum_exp(&tail.iter().map(|z| b * z).collect::<Vec<_>>())
    }

    /// The unrounded rule's log Z_tail.
    fn unrounded(rule: &TailRule, tail: &[f64], b: f64) -> f64 {
        let (low, distance) = rule.knots();
        let top = tail.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let points: Vec<f64> = tail.iter().map(|z| (distance * (z - top)).exp()).collect();
        let weights: Vec<f64> = tail.iter().map(|z| (low * (z - top)).exp()).collect();
        let rule = gauss(&points, &weights, rule.atoms as usize);
        let power = (b - low) / distance;
        log_sum_exp(&rule.iter().map(|(u, w)| w.ln() + power * u.ln()).collect::<Vec<_>>()) + b * top
    }

    #[test]
    fn the_rule_meets_its_knots_exactly_and_leaves_them_with_alternating_sign() {
        for seed in 0..20 {
            let tail = tail(seed, 500);
            let (low, distance) = RULE.knots();
            let error = |steps: f64| {
                let b = low + steps * distance;
                unrounded(&RULE, &tail, b) - exact(&tail, b)
            };
            for j in 0..10 {
                assert!(error(f64::from(j)).abs() < 1e-9, "seed {seed}, knot {j}: {}", error(f64::from(j)));
            }
            // Below the first knot and above the last a Gauss rule is a lower bound; in between u^s has a 2m-th
            // derivative whose sign changes with each knot.
            assert!(error(-1.0) < 0.0 && error(10.0) < 0.0, "seed {seed}: {} {}", error(-1.0), error(10.0));
            for j in 0..9 {
                let here = error(f64::from(j) + 0.5);
                assert_eq!(here > 0.0, j % 2 == 0, "seed {seed}, after knot {j}: {here}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn rounded_atoms_stay_within_the_stated_bound_and_are_convex(seed: u64, n in 1usize..400, atoms in 3u32..=8) {
            let rule = TailRule { atoms, ..RULE };
            let tail = tail(seed, n);
            let atoms = rule.atoms_reference(&tail);
            let view = Tail { reference: rule.reference(), atoms: &atoms, ..Tail::default() };
            for b in rule.grid() {
                let off = (view.log_partition(b) - unrounded(&rule, &tail, b)).abs();
                prop_assert!(off <= 2.0 * LOG_WEIGHT_STEP, "b = {b}: {off}");
            }
            let convex = |b: f64| {
                let h = 0.05;
                view.log_partition(b - h) + view.log_partition(b + h) - 2.0 * view.log_partition(b)
            };
            for b in rule.grid() {
                prop_assert!(convex(b) >= -1e-12, "log Z is convex in b");
            }
        }
    }

    #[test]
    fn few_classes_are_their_own_atoms_and_none_weighs_nothing() {
        let tail = [-3.0, -7.5, -3.0];
        let atoms = RULE.atoms_reference(&tail);
        assert_eq!(atoms[2..], [TailAtom::NONE; 3]);
        assert_eq!((atoms[0].log_prob, atoms[1].log_prob), (-3 * 512, -15 * 256));
        let view = Tail { reference: RULE.reference(), atoms: &atoms, ..Tail::default() };
        for b in [0.1, 0.5, 1.0, 1.3] {
            assert!((view.log_partition(b) - exact(&tail, b)).abs() < 2e-3);
        }
        assert_eq!(RULE.atoms_reference(&[]), [TailAtom::NONE; 5]);
        assert_eq!(Tail::default().log_partition(0.5), f64::NEG_INFINITY);
        // Classes that a mask pushed away weigh nothing, but do not disturb the others.
        let masked: Vec<f64> = tail.iter().copied().chain([-1e9; 4]).collect();
        let atoms = RULE.atoms_reference(&masked);
        let view = Tail { reference: RULE.reference(), atoms: &atoms, ..Tail::default() };
        assert!((view.log_partition(1.0) - exact(&tail, 1.0)).abs() < 2e-3, "{atoms:?}");
    }
}
