//! Gauss quadrature of a finite positive measure: a few weighted points that integrate polynomials exactly.
//!
//! An m-point rule is exact for polynomials of degree 2m - 1, its points lie within the measure's support and its
//! weights are positive (Golub and Welsch 1969).

/// A spread below this share of the measure's own is rounding noise: the measure has no more points than those found.
const NEGLIGIBLE: f64 = 1e-12;

/// Points and weights of a rule.
pub type Rule = Vec<(f64, f64)>;

/// Computes the rule of at most `m` points for the measure with weights `weights` at `points`, by Lanczos with full
/// reorthogonalisation. Returns fewer points if the measure has fewer, and none if its total weight is zero.
pub fn gauss(points: &[f64], weights: &[f64], m: usize) -> Rule {
    let total: f64 = weights.iter().sum();
    if total.is_nan() || total <= 0.0 || m == 0 {
        return Rule::new();
    }
    let mut basis: Vec<Vec<f64>> = vec![weights.iter().map(|w| (w / total).sqrt()).collect()];
    let (mut diagonal, mut off) = (Vec::new(), Vec::new());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let scale = points.iter().fold(0f64, |max, x| max.max(x.abs()));
    loop {
        let last = &basis[basis.len() - 1];
        let mut next: Vec<f64> = points.iter().zip(last).map(|(x, v)| x * v).collect();
        diagonal.push(dot(&next, last));
        // Two passes are enough: the second removes what the first leaves.
        for _ in 0..2 {
            for v in &basis {
                let share = dot(&next, v);
                next.iter_mut().zip(v).for_each(|(x, v)| *x -= share * v);
            }
        }
        let norm = dot(&next, &next).sqrt();
        if diagonal.len() == m || norm <= NEGLIGIBLE * scale {
            break;
        }
        off.push(norm);
        basis.push(next.iter().map(|x| x / norm).collect());
    }
    from_jacobi(&diagonal, &off, total)
}

/// Computes the rule of a Jacobi matrix (recurrence coefficients of the measure's orthonormal polynomials) and the
/// measure's total weight: points are its eigenvalues, weights the squared first components of its eigenvectors times
/// the total, in ascending order of points. Uses implicit QL with shifts; `off` is one shorter than `diagonal`.
pub fn from_jacobi(diagonal: &[f64], off: &[f64], total: f64) -> Rule {
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e = off.to_vec();
    e.push(0.0);
    let mut first = vec![0.0; n];
    first[0] = 1.0;
    for l in 0..n {
        // Convergence is cubic and takes a handful of sweeps; the bound only keeps bad input from looping.
        for _ in 0..100 {
            let small = |i: &usize| e[*i].abs() <= f64::EPSILON * (d[*i].abs() + d[*i + 1].abs());
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            ql_step(&mut d, &mut e, &mut first, l, m);
        }
    }
    let mut rule: Rule = d.into_iter().zip(first).map(|(x, v)| (x, v * v * total)).collect();
    rule.sort_by(|a, b| a.0.total_cmp(&b.0));
    rule
}

/// One implicit QL step on rows `l..=m`, carrying the first row of the eigenvectors along.
fn ql_step(d: &mut [f64], e: &mut [f64], first: &mut [f64], l: usize, m: usize) {
    let shift = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let mut g = d[m] - d[l] + e[l] / (shift + length(shift, 1.0).copysign(shift));
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in (l..m).rev() {
        let (f, b) = (s * e[i], c * e[i]);
        let r = length(f, g);
        e[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let r = (d[i] - g) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        let f = first[i + 1];
        first[i + 1] = s * first[i] + c * f;
        first[i] = c * first[i] - s * f;
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

/// √(a² + b²), by the slow route only if the squares overflow or underflow.
fn length(a: f64, b: f64) -> f64 {
    let squared = a * a + b * b;
    if (1e-280..1e280).contains(&squared) { squared.sqrt() } else { a.hypot(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CounterRng;

    #[test]
    fn a_rule_is_exact_up_to_its_degree_and_no_further() {
        let mut rng = CounterRng::new("quadrature test", &[1]);
        let points: Vec<f64> = (0..200).map(|_| rng.normal()).collect();
        let weights: Vec<f64> = (0..200).map(|_| rng.uniform()).collect();
        for m in 1..6 {
            let rule = gauss(&points, &weights, m);
            assert_eq!(rule.len(), m);
            let moment = |degree: i32| {
                let exact: f64 = points.iter().zip(&weights).map(|(x, w)| w * x.powi(degree)).sum();
                let got: f64 = rule.iter().map(|(x, w)| w * x.powi(degree)).sum();
                (got - exact).abs() / points.iter().zip(&weights).map(|(x, w)| w * x.abs().powi(degree)).sum::<f64>()
            };
            for degree in 0..2 * m as i32 {
                assert!(moment(degree) < 1e-12, "m = {m}, degree {degree}: {}", moment(degree));
            }
            assert!(moment(2 * m as i32) > 1e-6, "m = {m} cannot be exact beyond its degree");
        }
    }

    #[test]
    fn a_measure_of_few_points_is_its_own_rule() {
        let rule = gauss(&[3.0, -1.0, 3.0, 0.5], &[1.0, 2.0, 4.0, 0.0], 5);
        assert_eq!(rule.len(), 2, "{rule:?}");
        for ((x, w), (wanted_x, wanted_w)) in rule.iter().zip([(-1.0, 2.0), (3.0, 5.0)]) {
            assert!((x - wanted_x).abs() < 1e-12 && (w - wanted_w).abs() < 1e-12, "{rule:?}");
        }
        assert_eq!(gauss(&[1.0], &[0.0], 3), []);
        assert_eq!(gauss(&[], &[], 3), []);
    }
}
