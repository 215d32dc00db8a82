//! From sums of powers to the few points and weights that have the same sums.

use super::moments::MAX_SUMS;
use logitcask_core::quadrature::{Rule, from_jacobi};

/// Share of the whole weight below which a norm is rounding of f64.
const NEGLIGIBLE: f64 = 1e-17;
/// How far beyond the largest class a point may come to lie: the noise of good moments.
const SLACK: f64 = 1e-5;
/// Relative error at a knot that a rule of too few points may have: far below what rounding its atoms adds.
const KNOT_TOLERANCE: f64 = 1e-5;
/// Relative error between the knots of a rule that has enough points for its range.
const NEAR: f64 = 1e-2;

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

/// Is the rule near all sums? One of many points that is far off between the knots has too wide a range for them, and then
/// the last bits of the sums decide where they lie.
pub(super) fn is_near(rule: &Rule, sums: &[f64]) -> bool {
    let moment = |j: usize| rule.iter().map(|(u, weight)| weight * u.powf(j as f64 / 2.0)).sum::<f64>();
    sums.iter().enumerate().all(|(j, sum)| (moment(j) / sum - 1.0).abs() <= NEAR)
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
