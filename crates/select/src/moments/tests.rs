//! Sums and Gauss rules in both number types, compared with f64.

use super::*;
use crate::gauss::gauss_rule;
use crate::scan::scan;
use logitcask_core::TailRule;
use logitcask_core::math::log_sum_exp;
use logitcask_core::quadrature::{Rule, gauss};
use logitcask_core::rng::CounterRng;

struct Case {
    tail: Vec<f64>,
    logits: Vec<f32>,
    top: f32,
}

fn case(spread: f64) -> Case {
    let mut rng = CounterRng::new("moments test", &[(spread * 1e3) as u64]);
    let logits: Vec<f32> = (0..4_000).map(|_| (spread * rng.normal()) as f32).collect();
    let top = logits[2..].iter().copied().fold(f32::MIN, f32::max);
    Case { tail: logits[2..].iter().map(|&z| f64::from(z) - f64::from(top)).collect(), logits, top }
}

/// The number of points of the rule that this number type gives, and the largest errors over the grid, compared with
/// f64: of the logarithms of the sums, and of the rule's log Z.
fn errors<T: SumFloat>(rule: TailRule, case: &Case) -> (usize, f64, f64) {
    let (low, distance) = rule.knots();
    let mut sums = vec![0.0; rule.grid().len()];
    let mut extremes = Extremes::default();
    scan(&case.logits, 0, &mut extremes).unwrap();
    PowerSums::<T>::default().sum((&case.logits, &extremes), &[0, 1], case.top, (low, distance / 2.0), &mut sums);
    let fast = gauss_rule(&sums);
    let points: Vec<f64> = case.tail.iter().map(|z| (distance * z).exp()).collect();
    let weights: Vec<f64> = case.tail.iter().map(|z| (low * z).exp()).collect();
    let slow = gauss(&points, &weights, rule.atoms as usize);
    let log_z = |rule: &Rule, k: usize| {
        log_sum_exp(&rule.iter().map(|(u, weight)| weight.ln() + k as f64 / 2.0 * u.ln()).collect::<Vec<_>>())
    };
    let mut worst = (fast.len(), 0f64, 0f64);
    for (k, b) in rule.grid().into_iter().enumerate() {
        let truth = log_sum_exp(&case.tail.iter().map(|z| b * z).collect::<Vec<_>>());
        worst.1 = worst.1.max((sums[k].ln() - truth).abs());
        worst.2 = worst.2.max((log_z(&fast, k) - log_z(&slow, k)).abs());
    }
    worst
}

#[test]
fn exact_products_tell_all_points_apart() {
    for atoms in 1..=8 {
        for spread in [1e-3, 0.1, 1.0, 3.0, 8.0] {
            let rule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms };
            let (_, sums, log_z) = errors::<f64>(rule, &case(spread));
            assert!(sums < 1e-6 && log_z < 1e-6, "{atoms} atoms, spread {spread}: {sums:e} {log_z:e}");
        }
    }
}

#[test]
fn products_of_f32_do_where_they_find_all_points() {
    for atoms in 1..=5 {
        for spread in [1.0, 2.0, 3.0, 5.0, 8.0] {
            let rule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms };
            let (points, sums, log_z) = errors::<f32>(rule, &case(spread));
            assert!(sums < 1e-6, "{atoms} atoms, spread {spread}: {sums:e}");
            assert!(points < atoms as usize || log_z < 2e-5, "{atoms} atoms, spread {spread}: {log_z:e}");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let case = case(30.0);
    let mut extremes = Extremes::default();
    scan(&case.logits[..1_001], 0, &mut extremes).unwrap();
    let sums = |is_plain: bool| {
        let mut buffers = PowerSums::<f32>::default();
        let (logits, top) = (&case.logits[..1_001], case.top);
        let pass = PowerSumsPass {
            logits,
            extremes: &extremes,
            kept: &[3],
            top,
            low: 0.3,
            step: 0.2,
            groups: 5,
            buffers: &mut buffers,
        };
        if is_plain {
            pass.with_simd(pulp::Scalar::new())
        } else {
            Arch::new().dispatch(pass)
        }
        buffers.sums.map(f64::to_bits)
    };
    assert_eq!(sums(true), sums(false));
}
