//! Statistics of a row compared with f64, and every instruction set compared with scalar code.

use super::*;
use logitcask_core::math::log_sum_exp;
use logitcask_core::rng::CounterRng;

/// Rows whose largest logit comes first, last, or anywhere, at several scales and offsets, some with logits far below
/// the others.
fn rows() -> Vec<Vec<f32>> {
    let mut rng = CounterRng::new("scan test", &[]);
    let mut rows = Vec::new();
    for vocab in [1, 15, 256, 700, 5_000] {
        for (scale, shift) in [(0.0, 0.0), (1.0, 0.0), (3.0, -2e3), (5.0, 1e5), (40.0, 7.0)] {
            let mut row: Vec<f32> = (0..vocab).map(|_| (scale * rng.normal() + shift) as f32).collect();
            rows.push(row.clone());
            row.sort_by(f32::total_cmp);
            rows.push(row.clone());
            row.reverse();
            rows.push(row.clone());
            row.iter_mut().skip(1).step_by(3).for_each(|z| *z = -1e30);
            row.iter_mut().skip(2).step_by(5).for_each(|z| *z = f32::MIN);
            rows.push(row);
        }
    }
    rows
}

#[test]
fn a_summary_is_that_of_f64() {
    for row in rows() {
        let exact: Vec<f64> = row.iter().map(|z| f64::from(*z)).collect();
        let (exact, max) = (log_sum_exp(&exact), row.iter().copied().fold(f32::MIN, f32::max));
        for gold_id in [0, row.len() / 2, row.len() - 1] {
            let mut extremes = Extremes::default();
            let got = scan(&row, gold_id as u32, &mut extremes).unwrap();
            // The multiplier of the exponents is a rounded log2 e, with a relative error of 1 / 7e7.
            assert!((got.log_z - exact).abs() < 3e-7, "{} {exact}, {} classes", got.log_z, row.len());
            let before = |(id, z): (usize, &f32)| *z > row[gold_id] || (*z == row[gold_id] && id < gold_id);
            assert_eq!(got.rank as usize, row.iter().enumerate().filter(|class| before(*class)).count());
            assert_eq!(got.max, max);
            let [least, most] = extremes.range(pulp::Scalar::new(), 0..row.len().div_ceil(STRIP));
            let is_whole = row.len().is_multiple_of(STRIP);
            let min = row.iter().copied().fold(if is_whole { f32::MAX } else { f32::MIN }, f32::min);
            assert_eq!((least, most), (min, max));
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for row in rows() {
        let mut fast = Extremes::default();
        let stats = scan(&row, 0, &mut fast).unwrap();
        let lanes = fast.maxima.len();
        let mut plain = Extremes { maxima: vec![0.0; lanes], minima: vec![0.0; lanes] };
        let (gold, extremes) = (row[0], &mut plain);
        let scan = Scan { logits: &row, gold_id: 0, gold, extremes };
        let totals = scan.with_simd(pulp::Scalar::new());
        assert_eq!(totals.log_z().to_bits(), stats.log_z.to_bits());
        assert_eq!((plain.maxima, plain.minima), (fast.maxima, fast.minima));
    }
}

#[test]
fn what_is_no_number_is_seen_wherever_it_stands() {
    // NaNs with a payload in their low bits are included.
    let bad = [f32::NAN, f32::from_bits(0xffc1_2345), f32::from_bits(0x7f80_0001), f32::INFINITY, f32::NEG_INFINITY];
    for z in bad.into_iter().chain([3e38]) {
        for at in [0, 1, 255, 256, 300, 599] {
            for rest in [0.0, -1e30] {
                let mut row = vec![0.5; 600];
                row[400..].fill(rest);
                row[at] = z;
                assert!(scan(&row, 7, &mut Extremes::default()).is_none(), "{z} at {at}");
            }
        }
    }
    assert!(scan(&[2e38, f32::MIN, 0.0], 0, &mut Extremes::default()).is_some());
}
