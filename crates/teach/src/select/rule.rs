//! From sums of powers to the few points and weights that have the same sums.

use super::moments::MAX_SUMS;
use logitcask_core::quadrature::{Rule, from_jacobi};

/// Share of the whole weight below which a norm is rounding of f64.
const NEGLIGIBLE: f64 = 1e-17;
/// How far beyond the largest class a point may come to lie: the noise of good moments.
const SLACK: f64 = 1e-5;
/// Relative error at a knot that a rule of too few points may have: far below what rounding its atoms adds.
const KNOT_TOLERANCE: f64 = 1e-5;

/// The Gauss rule of the sums at the knots, every other one of the grid.
pub(super) fn rule_of_sums(sums: &[f64]) -> Rule {
    let mut moments = [0.0; MAX_SUMS / 2];
    let knots = sums.len().div_ceil(2);
    moments.iter_mut().zip(sums.iter().step_by(2)).for_each(|(moment, sum)| *moment = *sum);
    rule_of_moments(&moments[..knots])
}

/// Does the rule give the sums at the knots?
pub(super) fn meets_knots(rule: &Rule, sums: &[f64]) -> bool {
    let moment = |k: usize| rule.iter().map(|(u, weight)| weight * u.powi(k as i32)).sum::<f64>();
    sums.iter().step_by(2).enumerate().all(|(k, sum)| (moment(k) / sum - 1.0).abs() <= KNOT_TOLERANCE)
}

/// The largest relative distance of the rule from the sums, those between the knots included. One of enough points is far off
/// there only where its range is too wide for them, and then the last bits of the sums decide where the points lie.
pub(super) fn distance(rule: &Rule, sums: &[f64]) -> f64 {
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

/// The Gauss rule in (0, 1] of at most moments.len() / 2 points with these power moments; fewer points where the noise
/// of the moments hides the others.
fn rule_of_moments(moments: &[f64]) -> Rule {
    let (diagonal, off) = jacobi(moments);
    // Where noise took part, a point leaves the tail's range first.
    let is_sound = |(u, weight): &(f64, f64)| *u > 0.0 && *u <= 1.0 + SLACK && *weight > 0.0;
    (1..=diagonal.len())
        .rev()
        .map(|n| from_jacobi(&diagonal[..n], &off[..n - 1], moments[0]))
        .find(|rule| rule.iter().all(is_sound))
        .unwrap_or_default()
}

/// Recurrence coefficients by the Chebyshev algorithm, until a polynomial's norm is lost in rounding.
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
        // A negative norm, too: only noise makes it.
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
