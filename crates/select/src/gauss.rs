//! Gauss quadrature from power sums: a few points and weights that have the same sums.

use crate::moments::MAX_SUMS;
use logitcask_core::quadrature::{Rule, from_jacobi};

/// A polynomial's norm below this fraction of the total weight is rounding noise of f64.
const NEGLIGIBLE: f64 = 1e-17;
/// How far a point may lie above the largest class (u = 1) because of noise in the moments.
const POINT_TOLERANCE: f64 = 1e-5;
/// Relative error at a knot up to which a rule with fewer points than requested is accepted. It is far below the
/// rounding of the atoms.
const KNOT_TOLERANCE: f64 = 1e-5;

/// The Gauss rule that reproduces the sums at the knots, which are every other value of `sums`.
pub(crate) fn gauss_rule(sums: &[f64]) -> Rule {
    let mut moments = [0.0; MAX_SUMS / 2];
    let knots = sums.len().div_ceil(2);
    moments.iter_mut().zip(sums.iter().step_by(2)).for_each(|(moment, sum)| *moment = *sum);
    rule_of_moments(&moments[..knots])
}

/// Does the rule reproduce the sums at the knots?
pub(crate) fn matches_knots(rule: &Rule, sums: &[f64]) -> bool {
    let moment = |k: usize| rule.iter().map(|(u, weight)| weight * u.powi(k as i32)).sum::<f64>();
    sums.iter().step_by(2).enumerate().all(|(k, sum)| (moment(k) / sum - 1.0).abs() <= KNOT_TOLERANCE)
}

/// The largest relative error of the rule against `sums`, including those between the knots. A rule with enough points
/// has a large error only if the temperature range is too wide for them, and then the last bits of the sums decide
/// where its points lie.
pub(crate) fn max_relative_error(rule: &Rule, sums: &[f64]) -> f64 {
    let mut moments = [0.0; MAX_SUMS];
    for &(u, weight) in rule {
        let (step, mut term) = (u.sqrt(), weight);
        for moment in &mut moments[..sums.len()] {
            *moment += term;
            term *= step;
        }
    }
    moments.iter().zip(sums).map(|(moment, sum)| (moment / sum - 1.0).abs()).fold(0.0, f64::max)
}

/// The Gauss rule in (0, 1] with these power moments. It has at most moments.len() / 2 points, and fewer if the noise
/// of the moments hides the others.
fn rule_of_moments(moments: &[f64]) -> Rule {
    let (diagonal, off) = jacobi(moments);
    // Noise moves a point out of the tail's range before it does other damage.
    let is_sound = |(u, weight): &(f64, f64)| *u > 0.0 && *u <= 1.0 + POINT_TOLERANCE && *weight > 0.0;
    (1..=diagonal.len())
        .rev()
        .map(|n| from_jacobi(&diagonal[..n], &off[..n - 1], moments[0]))
        .find(|rule| rule.iter().all(is_sound))
        .unwrap_or_default()
}

/// Recurrence coefficients of the orthogonal polynomials by the Chebyshev algorithm, up to the first polynomial whose
/// norm is lost in rounding: (diagonal, off-diagonal).
fn jacobi(moments: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let m = moments.len() / 2;
    let (mut diagonal, mut off) = (Vec::with_capacity(m), Vec::with_capacity(m));
    diagonal.push(moments[1] / moments[0]);
    let (mut before, mut current) = ([0.0; MAX_SUMS], [0.0; MAX_SUMS]);
    current[..2 * m].copy_from_slice(moments);
    let mut squared = 0.0;
    for k in 1..m {
        let mut next = [0.0; MAX_SUMS];
        for l in k..2 * m - k {
            next[l] = current[l + 1] - diagonal[k - 1] * current[l] - squared * before[l];
        }
        // This includes a negative norm, which only noise produces.
        if next[k] <= NEGLIGIBLE * moments[0] {
            break;
        }
        squared = next[k] / current[k - 1];
        diagonal.push(next[k + 1] / next[k] - current[k] / current[k - 1]);
        off.push(squared.sqrt());
        (before, current) = (current, next);
    }
    (diagonal, off)
}
