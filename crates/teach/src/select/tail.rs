//! The classes outside the kept ones: their atoms, and how far the written row is from the full one.

use super::cpu::Row;
use super::moments::{MAX_SUMS, PowerSums};
use super::row_builder::LogProbs;
use super::rule::{distance, meets_knots, rule_of_sums};
use super::scan::Extremes;
use logitcask_core::quadrature::Rule;
use logitcask_core::tail::ATOM_STEP;
use logitcask_core::{RowErrors, Tail, TailAtom, TailRule};

/// Fewer classes than this outside are looked at one by one in f64: Lanczos finds out how many points there are.
pub(super) const FEW: usize = 256;
/// Up to so many atoms, sums in f32 nearly always tell the points apart.
const MOST_F32_ATOMS: u32 = 5;
/// Relative error between the knots up to which sums in f32 are believed: rounding the atoms adds about as much.
const NEAR: f64 = 2e-3;
/// That up to which sums from elsewhere are.
#[cfg(feature = "wgpu")]
const WITHIN_SIGHT: f64 = 1e-2;
/// Terms that are added side by side.
const ABREAST: usize = 8;

/// Atoms of one row after the other.
pub(super) struct TailSummary {
    rule: TailRule,
    /// The lowest inverse temperature of the grid, and the distance of two.
    grid: (f64, f64),
    fast: Box<PowerSums<f32>>,
    exact: Box<PowerSums<f64>>,
    /// Sums over the tail of e^{b (z - log_z)} at the grid.
    truth: Vec<f64>,
    /// Sums of e^{b (z - top)}.
    sums: Vec<f64>,
    kept: Vec<u32>,
    /// Log-probabilities of a tail of few classes.
    few: Vec<f64>,
    atoms: Vec<TailAtom>,
}

impl TailSummary {
    /// For rows whose tail this rule sums up.
    pub(super) fn new(rule: TailRule) -> Self {
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

    /// The tail as a row shows it.
    pub(super) fn view(&self) -> Tail<'_> {
        Tail { reference: self.rule.reference(), atoms: &self.atoms, joined: &[], without: None }
    }

    /// Sums up the classes outside `sure`, of which `top` is the largest logit.
    pub(super) fn summarise(&mut self, row: Row<'_>, extremes: &Extremes, sure: &[u32], top: Option<f32>) {
        self.kept.clear();
        self.kept.extend_from_slice(sure);
        self.kept.sort_unstable();
        match top {
            Some(top) if row.logits.len() - sure.len() >= FEW => self.sum_up_many(row, extremes, top),
            _ => self.sum_up_few(row),
        }
    }

    fn sum_up_few(&mut self, row: Row<'_>) {
        let mut kept = self.kept.iter().copied().peekable();
        let outside = (0..row.logits.len() as u32).filter(|id| kept.next_if_eq(id).is_none());
        self.few.clear();
        self.few.extend(outside.map(|id| row.log_prob(id)));
        self.truth.fill(0.0);
        add_terms(self.grid, self.few.iter().map(|&z| (self.grid.0 * z, z)), &mut self.truth);
        self.atoms = self.rule.atoms_reference(&self.few);
    }

    fn sum_up_many(&mut self, row: Row<'_>, extremes: &Extremes, top: f32) {
        let atoms = self.rule.atoms as usize;
        let mut rule = Rule::new();
        if self.rule.atoms <= MOST_F32_ATOMS {
            self.fast.sum((row.logits, extremes), &self.kept, top, self.grid, &mut self.sums);
            rule = rule_of_sums(&self.sums);
        }
        // Points are missing where the tail has fewer, or where rounding hides them: only exact products tell. In a range too
        // wide for its points they may be misplaced.
        if rule.len() < atoms || distance(&rule, &self.sums) > NEAR {
            self.exact.sum((row.logits, extremes), &self.kept, top, self.grid, &mut self.sums);
            rule = rule_of_sums(&self.sums);
        }
        // Points many orders of magnitude apart leave no trace in each other's moments.
        if rule.len() < atoms && !meets_knots(&rule, &self.sums) {
            return self.sum_up_few(row);
        }
        self.adopt(&rule, f64::from(top) - row.log_z);
    }

    /// Sums up a tail of which all but a few classes were added up elsewhere: `far` holds the sums of e^{b (z - bar)}
    /// over those, no z of which is above the bar, `near` the logits of the others, largest first. `false` where no rule gives
    /// these sums, or their last bits decide which.
    #[cfg(feature = "wgpu")]
    pub(super) fn complete(&mut self, far: &[f64], bar: f32, near: impl Iterator<Item = f32>, log_z: f64) -> bool {
        let mut near = near.map(f64::from).peekable();
        let Some(top) = near.peek().map(|&z| z.max(f64::from(bar))) else { return false };
        let (low, step) = self.grid;
        let shift = f64::from(bar) - top;
        for (j, (sum, &far)) in self.sums.iter_mut().zip(far).enumerate() {
            *sum = far * ((low + j as f64 * step) * shift).exp();
        }
        add_terms(self.grid, near.map(|z| (low * (z - top), z - top)), &mut self.sums);
        let rule = rule_of_sums(&self.sums);
        // Points many orders of magnitude apart are missing, and arithmetic worse than it should be shows here.
        let is_sure = self.rule.atoms <= MOST_F32_ATOMS || distance(&rule, &self.sums) <= WITHIN_SIGHT;
        if !(is_sure && meets_knots(&rule, &self.sums)) {
            return false;
        }
        self.adopt(&rule, top - log_z);
        true
    }

    /// Makes atoms of the rule of `sums`, and of these what is true; `relative` is the top's log-probability.
    fn adopt(&mut self, rule: &Rule, relative: f64) {
        let (low, step) = self.grid;
        for (j, (truth, sum)) in self.truth.iter_mut().zip(&self.sums).enumerate() {
            *truth = sum * ((low + j as f64 * step) * relative).exp();
        }
        self.atoms = self.rule.atoms_of_rule(rule, relative);
    }

    /// Counts the errors of log Z in `errors`, with `log_probs` and the atoms as they are written.
    pub(super) fn count_errors(&self, row: impl LogProbs, sure: &[u32], log_probs: &[f32], errors: &mut RowErrors) {
        let points = self.truth.len();
        let (low, _) = self.grid;
        let mut truth = [0.0; MAX_SUMS];
        truth[..points].copy_from_slice(&self.truth);
        let alone = |z: f64| (low * z, z);
        add_terms(self.grid, sure.iter().map(|&id| alone(row.log_prob(id))), &mut truth[..points]);
        let mut written = [0.0; MAX_SUMS];
        let reference = self.rule.reference();
        let used = self.atoms.iter().filter(|atom| **atom != TailAtom::NONE);
        let atoms = used.map(|atom| (atom.log_term(low, reference), ATOM_STEP * f64::from(atom.log_prob)));
        let kept = log_probs.iter().map(|&lp| alone(f64::from(lp)));
        add_terms(self.grid, kept.chain(atoms), &mut written[..points]);
        for (error, (written, truth)) in errors.log_z.iter_mut().zip(written.iter().zip(&truth)) {
            error.add((written / truth).ln());
        }
    }
}

/// Adds e^{b z} at every b of the grid for each class or atom, given as its logarithm at the lowest b and its z.
fn add_terms((_, step): (f64, f64), terms: impl Iterator<Item = (f64, f64)>, sums: &mut [f64]) {
    let mut terms = terms.peekable();
    while terms.peek().is_some() {
        let (mut now, mut ratio) = ([0.0; ABREAST], [0.0; ABREAST]);
        for ((now, ratio), (log_term, z)) in now.iter_mut().zip(&mut ratio).zip(terms.by_ref().take(ABREAST)) {
            (*now, *ratio) = (log_term.exp(), (step * z).exp());
        }
        for sum in &mut *sums {
            *sum += now.iter().sum::<f64>();
            now.iter_mut().zip(&ratio).for_each(|(now, ratio)| *now *= ratio);
        }
    }
}
