//! The tail (all classes outside the kept ones): fits its atoms and measures how far the encoded row is from the full
//! one.

use crate::gauss::{gauss_rule, matches_knots, max_relative_error};
use crate::moments::{MAX_SUMS, PowerSums};
use crate::row::{FullRow, LogProbs};
use crate::scan::Extremes;
use logitcask_core::quadrature::Rule;
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{RowErrors, Tail, TailAtom, TailRule};

/// A tail of fewer classes is evaluated class by class in f64, where Lanczos determines how many distinct points there
/// are.
pub const MIN_SUMMED_CLASSES: usize = 256;
/// Up to this number of atoms, sums in f32 nearly always resolve all points.
const MAX_F32_ATOMS: u32 = 5;
/// Largest relative error between the knots at which a rule from f32 sums is accepted. Rounding the atoms adds about as
/// much.
const F32_TOLERANCE: f64 = 2e-3;
/// The same limit for a rule from the sums of a summary.
const PARTIAL_TOLERANCE: f64 = 1e-2;
/// Terms that are added in parallel, so that the compiler can use vector instructions.
const TERMS_AT_ONCE: usize = 8;

/// Fits the atoms of one row's tail at a time and reuses its buffers.
pub(crate) struct TailFitter {
    rule: TailRule,
    /// The lowest inverse temperature of the grid, and its step.
    grid: (f64, f64),
    fast: Box<PowerSums<f32>>,
    exact: Box<PowerSums<f64>>,
    /// Σ e^{b (z - log Z)} over the tail, for each b of the grid.
    truth: Vec<f64>,
    /// Σ e^{b (z - top)} over the tail, for each b of the grid.
    sums: Vec<f64>,
    kept: Vec<u32>,
    /// Log-probabilities of a tail that is evaluated class by class.
    few: Vec<f64>,
    atoms: Vec<TailAtom>,
}

impl TailFitter {
    /// A fitter for tails that this rule represents.
    pub(crate) fn new(rule: TailRule) -> Self {
        let points = rule.grid().len();
        let (low, distance) = rule.knots();
        Self {
            rule,
            grid: (low, distance / 2.0),
            fast: Box::default(),
            exact: Box::default(),
            truth: vec![0.0; points],
            sums: vec![0.0; points],
            kept: Vec::new(),
            few: Vec::new(),
            atoms: Vec::new(),
        }
    }

    /// The fitted tail.
    pub(crate) fn as_tail(&self) -> Tail<'_> {
        Tail { reference: self.rule.reference(), atoms: &self.atoms, ..Tail::default() }
    }

    /// Fits the tail of the classes outside `certain`. `top` is the largest logit among them.
    pub(crate) fn fit(&mut self, row: FullRow<'_>, extremes: &Extremes, certain: &[u32], top: Option<f32>) {
        self.kept.clear();
        self.kept.extend_from_slice(certain);
        self.kept.sort_unstable();
        match top {
            Some(top) if row.logits.len() - certain.len() >= MIN_SUMMED_CLASSES => {
                self.fit_from_sums(row, extremes, top)
            }
            _ => self.fit_from_classes(row),
        }
    }

    fn fit_from_classes(&mut self, row: FullRow<'_>) {
        let mut kept = self.kept.iter().copied().peekable();
        let outside = (0..row.logits.len() as u32).filter(|id| kept.next_if_eq(id).is_none());
        self.few.clear();
        self.few.extend(outside.map(|id| row.log_prob(id)));
        self.truth.fill(0.0);
        add_terms(self.grid, self.few.iter().map(|&z| (self.grid.0 * z, z)), &mut self.truth);
        self.atoms = self.rule.atoms_reference(&self.few);
    }

    fn fit_from_sums(&mut self, row: FullRow<'_>, extremes: &Extremes, top: f32) {
        let atoms = self.rule.atoms as usize;
        let mut rule = Rule::new();
        if self.rule.atoms <= MAX_F32_ATOMS {
            self.fast.sum((row.logits, extremes), &self.kept, top, self.grid, &mut self.sums);
            rule = gauss_rule(&self.sums);
        }
        // The rule has too few points if the tail itself has fewer, or if rounding hides some; f64 products tell which.
        // If the temperature range is too wide for the number of points, they may also be misplaced.
        if rule.len() < atoms || max_relative_error(&rule, &self.sums) > F32_TOLERANCE {
            self.exact.sum((row.logits, extremes), &self.kept, top, self.grid, &mut self.sums);
            rule = gauss_rule(&self.sums);
        }
        // Points many orders of magnitude apart leave no trace in each other's moments.
        if rule.len() < atoms && !matches_knots(&rule, &self.sums) {
            return self.fit_from_classes(row);
        }
        self.set_atoms(&rule, f64::from(top) - row.log_z);
    }

    /// Fits a tail of which all but a few classes were summed elsewhere. `far` holds Σ e^{b (z - bound)} over those
    /// classes, none of whose logits exceeds `bound`; `near` holds the logits of the other classes, largest first.
    /// Returns `false` if no rule reproduces these sums, or if the last bits of the sums decide which rule does.
    pub(crate) fn fit_partial(&mut self, far: &[f64], bound: f32, near: impl Iterator<Item = f32>, log_z: f64) -> bool {
        let mut near = near.map(f64::from).peekable();
        let Some(top) = near.peek().map(|&z| z.max(f64::from(bound))) else { return false };
        let (low, step) = self.grid;
        let shift = f64::from(bound) - top;
        for (j, (sum, &far)) in self.sums.iter_mut().zip(far).enumerate() {
            *sum = far * ((low + j as f64 * step) * shift).exp();
        }
        add_terms(self.grid, near.map(|z| (low * (z - top), z - top)), &mut self.sums);
        let rule = gauss_rule(&self.sums);
        // This also rejects a rule whose points are too far apart to be resolved, and sums from a device whose
        // arithmetic is worse than assumed.
        let is_trusted = self.rule.atoms <= MAX_F32_ATOMS || max_relative_error(&rule, &self.sums) <= PARTIAL_TOLERANCE;
        if !(is_trusted && matches_knots(&rule, &self.sums)) {
            return false;
        }
        self.set_atoms(&rule, top - log_z);
        true
    }

    /// Converts the Gauss rule of `sums` to atoms and computes `truth`. `relative` is the log-probability of `top`.
    fn set_atoms(&mut self, rule: &Rule, relative: f64) {
        let (low, step) = self.grid;
        for (j, (truth, sum)) in self.truth.iter_mut().zip(&self.sums).enumerate() {
            *truth = sum * ((low + j as f64 * step) * relative).exp();
        }
        self.atoms = self.rule.atoms_of_rule(rule, relative);
    }

    /// Adds the errors of log Z at each b of the grid to `errors`, given the encoded `log_probs` and the fitted atoms.
    pub(crate) fn count_errors(&self, row: impl LogProbs, certain: &[u32], log_probs: &[f32], errors: &mut RowErrors) {
        let grid = self.truth.len();
        let (low, _) = self.grid;
        let mut truth = [0.0; MAX_SUMS];
        truth[..grid].copy_from_slice(&self.truth);
        let alone = |z: f64| (low * z, z);
        add_terms(self.grid, certain.iter().map(|&id| alone(row.log_prob(id))), &mut truth[..grid]);
        let mut written = [0.0; MAX_SUMS];
        let reference = self.rule.reference();
        let used = self.atoms.iter().filter(|atom| **atom != TailAtom::NONE);
        let atoms = used.map(|atom| (atom.log_term(low, reference), ATOM_STEP * f64::from(atom.log_prob)));
        let kept = log_probs.iter().map(|&lp| alone(f64::from(lp)));
        add_terms(self.grid, kept.chain(atoms), &mut written[..grid]);
        for (error, (written, truth)) in errors.log_z.iter_mut().zip(written.iter().zip(&truth)) {
            error.add((written / truth).ln());
        }
    }
}

/// Adds e^{b z} to `sums` for each b of the grid and each term. A term is given as its logarithm at the lowest b, and
/// z.
fn add_terms((_, step): (f64, f64), terms: impl Iterator<Item = (f64, f64)>, sums: &mut [f64]) {
    let mut terms = terms.peekable();
    while terms.peek().is_some() {
        let (mut now, mut ratio) = ([0.0; TERMS_AT_ONCE], [0.0; TERMS_AT_ONCE]);
        for ((now, ratio), (log_term, z)) in now.iter_mut().zip(&mut ratio).zip(terms.by_ref().take(TERMS_AT_ONCE)) {
            (*now, *ratio) = (log_term.exp(), (step * z).exp());
        }
        for sum in &mut *sums {
            *sum += now.iter().sum::<f64>();
            now.iter_mut().zip(&ratio).for_each(|(now, ratio)| *now *= ratio);
        }
    }
}
