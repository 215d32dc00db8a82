//! The largest classes compared with sorting, and every instruction set compared with scalar code.

use super::*;
use crate::scan::{Extremes, scan};
use logitcask_core::rng::CounterRng;

/// Logits of one of four kinds: all different, on a coarse grid as in half precision, nearly all equal, and ascending.
fn row(rng: &mut CounterRng, kind: usize, vocab: usize) -> Vec<f32> {
    let mut logit = |i: usize| match kind {
        0 => 4.0 * rng.normal() as f32,
        1 => (8.0 * rng.normal()).round() as f32 / 4.0,
        2 => {
            if rng.below(50) == 0 {
                1.0
            } else {
                -0.0
            }
        }
        _ => i as f32 - 1e4,
    };
    (0..vocab).map(&mut logit).collect()
}

/// The largest classes by sorting all of them by logit and id.
fn sorted(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut classes: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    classes.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    classes.truncate(count);
    classes
}

#[test]
fn the_largest_are_those_that_sorting_puts_first() {
    let mut rng = CounterRng::new("top test", &[0]);
    let (mut top, mut extremes) = (TopClasses::default(), Extremes::default());
    for vocab in [1, 5, 16, 255, 256, 257, 1_000, 5_000, 32_000] {
        for kind in 0..4 {
            let logits = row(&mut rng, kind, vocab);
            scan(&logits, 0, &mut extremes).unwrap();
            for count in [0, 1, 2, 3, 17, 65, 100, 191, 192, 193, 513, vocab + 1] {
                top.find(&logits, &extremes.maxima, count);
                let wanted = sorted(&logits, count);
                assert!(top.classes().eq(wanted.iter().copied()), "{count} of {vocab}, kind {kind}");
            }
        }
    }
}

#[test]
fn every_instruction_set_finds_the_same() {
    let mut rng = CounterRng::new("top test", &[1]);
    let logits = row(&mut rng, 1, 3_333);
    let mut extremes = Extremes::default();
    scan(&logits, 0, &mut extremes).unwrap();
    for count in [1, 65, 300] {
        let (mut fast, mut plain) = (TopClasses::default(), TopClasses::default());
        fast.find(&logits, &extremes.maxima, count);
        plain.fill_groups(&extremes.maxima, count);
        Find { logits: &logits, maxima: &extremes.maxima, count, top: &mut plain }.with_simd(pulp::Scalar::new());
        assert_eq!(fast.keys, plain.keys);
    }
}

#[test]
fn the_threshold_is_the_number_at_its_place() {
    let mut rng = CounterRng::new("top test", &[2]);
    for scale in [1e-30, 1.0, 1e30] {
        let numbers: Vec<f32> = (0..160).map(|_| (scale * rng.normal()) as f32).collect();
        let mut sorted = numbers.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for count in [1, 2, 80, 159, 160] {
            let got = threshold(pulp::Scalar::new(), &numbers, count);
            assert_eq!(numbers.iter().filter(|z| **z >= got).count(), count, "{count} at {scale}");
            assert!(got <= sorted[count - 1]);
        }
        assert_eq!(threshold(pulp::Scalar::new(), &numbers, 161), f32::MIN);
    }
    assert_eq!(threshold(pulp::Scalar::new(), &[0.0, -0.0, 0.0, 2.0], 3), 0.0);
}
