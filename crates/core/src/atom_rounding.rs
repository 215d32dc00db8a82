//! Rounding of a tail's quadrature rule to few digits, so that the sums it represents change little.
//!
//! Points are rounded first, to a coarse step. The weights are then fitted to the rule's sums at its knots by least
//! squares, and rounded one after the other: each is fitted again after those before it were rounded, so that it
//! absorbs their errors as far as it can (Babai's nearest plane).

use crate::tail::{ATOM_STEP, MAX_ATOMS, TailRule};

/// Step of an atom's logit, in nats.
pub const LOGIT_STEP: f64 = 1.0 / 16.0;
/// Step of an atom's log-weight, in nats.
pub const LOG_WEIGHT_STEP: f64 = ATOM_STEP;
/// Relative error at a knot, before weights are rounded, above which coarse points are not used: as much as rounding
/// the weights causes.
const TOLERANCE: f64 = LOG_WEIGHT_STEP / 2.0;
/// Bound of logits and log-weights, in nats, some way below that of an i16 in units of 1/512 nat.
const LIMIT: f64 = 60.0;
/// Maximum number of knots.
const MAX_KNOTS: usize = 2 * MAX_ATOMS as usize;

/// One number for each knot; zero beyond the last.
type Column = [f64; MAX_KNOTS];

/// Rounds the logit and the log-weight of each atom of `exact`, which are in descending order. Returns `None` if coarse
/// steps would change the sums by more than [`TOLERANCE`], or if an atom is out of range.
pub(crate) fn round_coarsely(rule: &TailRule, exact: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let is_within = |x: f64| x.abs() < LIMIT;
    let logits: Vec<f64> = exact.iter().map(|(logit, _)| (logit / LOGIT_STEP).round() * LOGIT_STEP).collect();
    let is_apart = logits.is_sorted_by(|a, b| a > b);
    if !is_apart || !exact.iter().all(|&(logit, log_weight)| is_within(logit) && is_within(log_weight)) {
        return None;
    }
    let mut sums = [0.0; MAX_KNOTS];
    for &atom in exact {
        add_to(&mut sums, at_knots(rule, atom));
    }
    let column = |(&logit, &(_, log_weight)): (&f64, &(f64, f64))| {
        let mut column = at_knots(rule, (logit, log_weight));
        column.iter_mut().zip(&sums).for_each(|(x, sum)| *x = if *sum > 0.0 { *x / sum } else { 0.0 });
        column
    };
    let (triangle, target) = factor(logits.iter().zip(exact).map(column).collect(), 2 * rule.atoms as usize)?;
    let mut factors = vec![0.0; exact.len()];
    let mut rounded = exact.to_vec();
    for atom in (0..exact.len()).rev() {
        let others = (atom + 1..exact.len()).map(|other| triangle[atom][other] * factors[other]).sum::<f64>();
        let fitted = (target[atom] - others) / triangle[atom][atom];
        let log_weight = ((exact[atom].1 + fitted.ln()) / LOG_WEIGHT_STEP).round() * LOG_WEIGHT_STEP;
        // Also refuses a weight that is not positive, whose logarithm is no number.
        if !is_within(log_weight) {
            return None;
        }
        factors[atom] = (log_weight - exact[atom].1).exp();
        rounded[atom] = (logits[atom], log_weight);
    }
    Some(rounded)
}

/// What an atom adds at each knot.
fn at_knots(rule: &TailRule, (logit, log_weight): (f64, f64)) -> Column {
    let (low, distance) = rule.knots();
    let mut column = [0.0; MAX_KNOTS];
    let (mut term, ratio) = ((log_weight + (low - rule.reference()) * logit).exp(), (distance * logit).exp());
    for x in &mut column[..2 * rule.atoms as usize] {
        *x = term;
        term *= ratio;
    }
    column
}

fn add_to(sums: &mut Column, terms: Column) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

fn dot(a: &Column, b: &Column) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn subtract(from: &mut Column, factor: f64, column: &Column) {
    from.iter_mut().zip(column).for_each(|(x, y)| *x -= factor * y);
}

/// The triangular system whose solution multiplies `columns` so that their sum is nearest to 1 at each of `knots`, by
/// modified Gram-Schmidt. `None` if even the nearest sum is off by more than [`TOLERANCE`] somewhere.
fn factor(mut columns: Vec<Column>, knots: usize) -> Option<(Vec<Vec<f64>>, Vec<f64>)> {
    let count = columns.len();
    let (mut triangle, mut target) = (vec![vec![0.0; count]; count], vec![0.0; count]);
    let mut left = [0.0; MAX_KNOTS];
    left[..knots].fill(1.0);
    for at in 0..count {
        let (before, after) = columns.split_at_mut(at + 1);
        let column = &mut before[at];
        let norm = dot(column, column).sqrt();
        column.iter_mut().for_each(|x| *x /= norm);
        triangle[at][at] = norm;
        for (other, later) in after.iter_mut().zip(at + 1..) {
            triangle[at][later] = dot(column, other);
            subtract(other, triangle[at][later], column);
        }
        target[at] = dot(column, &left);
        subtract(&mut left, target[at], column);
    }
    // Written so that it refuses what is no number.
    left.iter().all(|x| x.abs() <= TOLERANCE).then_some((triangle, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };
    /// The atoms of a position of stories15M.
    const ATOMS: [(f64, f64); 5] =
        [(-12.481, -0.583), (-14.447, 0.551), (-17.623, 1.201), (-21.404, 1.017), (-26.363, 0.269)];

    fn sums(atoms: &[(f64, f64)]) -> Column {
        let mut sums = [0.0; MAX_KNOTS];
        atoms.iter().for_each(|&atom| add_to(&mut sums, at_knots(&RULE, atom)));
        sums
    }

    #[test]
    fn coarse_steps_barely_change_the_sums() {
        let rounded = round_coarsely(&RULE, &ATOMS).unwrap();
        for (&(logit, log_weight), exact) in rounded.iter().zip(ATOMS) {
            assert_eq!((logit * 16.0).fract(), 0.0);
            assert_eq!((log_weight * 512.0).fract(), 0.0);
            assert!((logit - exact.0).abs() <= LOGIT_STEP / 2.0 && (log_weight - exact.1).abs() < 0.2, "{rounded:?}");
        }
        for (sum, exact) in sums(&rounded).iter().zip(sums(&ATOMS)).take(2 * ATOMS.len()) {
            assert!((sum / exact).ln().abs() < LOG_WEIGHT_STEP, "{sum} {exact}");
        }
        // The weights alone, without being fitted again, would be off by several times that.
        let plain: Vec<_> = rounded.iter().zip(ATOMS).map(|(rounded, exact)| (rounded.0, exact.1)).collect();
        let (plain, exact) = (sums(&plain), sums(&ATOMS));
        let off = plain.iter().zip(exact).take(10).map(|(sum, exact)| (sum / exact).ln().abs());
        assert!(off.fold(0.0, f64::max) > 2.0 * LOG_WEIGHT_STEP);
    }

    #[test]
    fn atoms_too_close_or_out_of_range_are_left_to_the_caller() {
        assert_eq!(round_coarsely(&RULE, &[(-12.0, 0.0), (-12.01, 0.0)]), None);
        assert_eq!(round_coarsely(&RULE, &[(-12.0, 0.0), (-70.0, 0.0)]), None);
        assert_eq!(round_coarsely(&RULE, &[(-12.0, f64::NAN)]), None);
    }
}
