use super::*;
use crate::rng::CounterRng;
use crate::select::select_reference;
use crate::tests::keep;
use crate::{RowErrors, Selection, SoftRows};

const VOCAB: usize = 24;

const ALL: [Divergence; 8] = [
    Divergence::ForwardKl {},
    Divergence::ReverseKl {},
    Divergence::JensenShannon { beta: 0.3 },
    Divergence::SkewForwardKl { lambda: 0.1 },
    Divergence::SkewReverseKl { lambda: 0.1 },
    Divergence::TotalVariation {},
    Divergence::Hellinger {},
    Divergence::AlphaBeta { alpha: 0.2, beta: 0.7 },
];

const POLICIES: [TailPolicy; 3] = [TailPolicy::Bucket, TailPolicy::Renormalize, TailPolicy::Uniform];

fn logits(seed: u64) -> Vec<f64> {
    let mut rng = CounterRng::new("divergence test", &[seed]);
    (0..VOCAB).map(|_| f64::from(2.0 * rng.normal() as f32)).collect()
}

fn log_softmax(z: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = z.iter().map(|z| z / temperature).collect();
    let log_z = log_sum_exp(&scaled);
    scaled.iter().map(|x| x - log_z).collect()
}

/// What is known of `teacher` where only `kept` are known one by one.
fn target(teacher: &[f64], kept: &[u32], temperature: f64, policy: TailPolicy) -> Target {
    let log_p = log_softmax(teacher, temperature);
    let mut log_probs: Vec<f64> = kept.iter().map(|&id| log_p[id as usize]).collect();
    let outside: Vec<f64> = (0..).zip(&log_p).filter(|(id, _)| !kept.contains(id)).map(|(_, log_p)| *log_p).collect();
    let log_mass = log_sum_exp(&outside);
    let rest = match policy {
        _ if outside.is_empty() => Rest::Nothing,
        TailPolicy::Bucket => Rest::Bucket { log_mass },
        TailPolicy::Uniform => Rest::Uniform { log_mass },
        TailPolicy::Renormalize | TailPolicy::Sampled => Rest::Nothing,
    };
    if policy == TailPolicy::Renormalize {
        let sum = log_sum_exp(&log_probs);
        log_probs.iter_mut().for_each(|lp| *lp -= sum);
    }
    Target { class_ids: kept.to_vec(), counts: vec![1.0; kept.len()], log_probs, rest }
}

fn everything() -> Vec<u32> {
    (0..VOCAB as u32).collect()
}

/// Central differences of the loss with respect to every logit.
fn slopes(loss: impl Fn(&[f64]) -> f64, at: &[f64]) -> Vec<f64> {
    let moved = |i: usize, by: f64| {
        let mut moved = at.to_vec();
        moved[i] += by;
        loss(&moved)
    };
    (0..at.len()).map(|i| (moved(i, 1e-5) - moved(i, -1e-5)) / 2e-5).collect()
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (seed, temperature) in [(0, 1.0), (1, 2.0), (2, 0.7)] {
        let (teacher, student) = (logits(seed), logits(seed + 100));
        for divergence in ALL {
            for policy in POLICIES {
                let mut target = target(&teacher, &[7, 0, 3, 11], temperature, policy);
                target.counts[2] = 1.5;
                let exact = compare(divergence, &student, temperature, &target).gradient;
                let found = slopes(|s| compare(divergence, s, temperature, &target).loss, &student);
                for (i, (exact, found)) in exact.iter().zip(found).enumerate() {
                    let what = format!("{divergence:?} {policy:?} seed {seed} class {i}");
                    assert!((exact - found).abs() < 1e-8, "{what}: {exact}, found {found}");
                }
            }
        }
    }
}

#[test]
fn every_divergence_is_zero_at_the_teacher_alone() {
    let (teacher, student) = (logits(1), logits(2));
    for divergence in ALL {
        for policy in [TailPolicy::Bucket, TailPolicy::Uniform] {
            let target = target(&teacher, &everything(), 1.5, policy);
            let same = compare(divergence, &teacher, 1.5, &target);
            assert!(same.loss.abs() < 1e-12, "{divergence:?} {}", same.loss);
            assert!(same.gradient.iter().all(|g| g.abs() < 1e-12), "{divergence:?}");
            assert!(compare(divergence, &student, 1.5, &target).loss > 0.01, "{divergence:?}");
        }
    }
}

#[test]
fn the_bucket_is_never_above_the_full_divergence() {
    // Data processing: merging classes loses information under any f-divergence; alpha-beta is none.
    for seed in 0..40 {
        let (teacher, student) = (logits(seed), logits(seed + 1000));
        for divergence in ALL.into_iter().filter(|d| !matches!(d, Divergence::AlphaBeta { .. })) {
            let at = |kept: &[u32]| {
                compare(divergence, &student, 2.0, &target(&teacher, kept, 2.0, TailPolicy::Bucket)).loss
            };
            let (full, bucket) = (at(&everything()), at(&[2, 5, 6]));
            assert!((-1e-12..=full + 1e-12).contains(&bucket), "{divergence:?} seed {seed}: {bucket} and {full}");
        }
    }
}

#[test]
fn families_meet_where_their_papers_say() {
    let (teacher, student) = (logits(3), logits(4));
    let target = target(&teacher, &everything(), 1.0, TailPolicy::Bucket);
    let loss = |divergence| compare(divergence, &student, 1.0, &target).loss;
    let close = |a: f64, b: f64, to: f64| assert!((a - b).abs() < to, "{a} and {b}");
    let (forward, reverse) = (loss(Divergence::ForwardKl {}), loss(Divergence::ReverseKl {}));
    close(loss(Divergence::AlphaBeta { alpha: 1.0, beta: 1e-6 }), forward, 1e-4);
    close(loss(Divergence::AlphaBeta { alpha: 1e-6, beta: 1.0 }), reverse, 1e-4);
    close(loss(Divergence::AlphaBeta { alpha: 0.5, beta: 0.5 }), 4.0 * loss(Divergence::Hellinger {}), 1e-12);
    close(loss(Divergence::SkewForwardKl { lambda: 1e-9 }), forward, 1e-6);
    close(loss(Divergence::SkewReverseKl { lambda: 1e-9 }), reverse, 1e-6);
    // Jensen-Shannon over beta tends to forward KL, over 1 - beta to reverse KL (2306.13649).
    close(loss(Divergence::JensenShannon { beta: 1e-7 }) / 1e-7, forward, 1e-4);
    close(loss(Divergence::JensenShannon { beta: 1.0 - 1e-7 }) / 1e-7, reverse, 1e-4);
}

#[test]
fn a_constant_on_every_teacher_logit_changes_nothing() {
    let (teacher, student) = (logits(5), logits(6));
    let moved: Vec<f64> = teacher.iter().map(|z| z + 7.3).collect();
    for divergence in ALL {
        for policy in POLICIES {
            let [a, b] = [&teacher, &moved].map(|teacher| target(teacher, &[1, 9, 4], 2.0, policy));
            let [a, b] = [a, b].map(|target| compare(divergence, &student, 2.0, &target).loss);
            assert!((a - b).abs() < 1e-12, "{divergence:?} {policy:?}: {a} and {b}");
        }
    }
}

#[test]
fn sampled_classes_give_the_full_divergence_on_average() {
    // Of 24 classes 6 are kept for sure or drawn; any cell function is estimated without bias at any temperature.
    let teacher: Vec<f32> = logits(7).iter().map(|&z| z as f32).collect();
    let (wide, student) = (logits(7), logits(8));
    let keep = keep(Selection::Sample { n: 6, seed: 0 });
    const DRAWS: usize = 4000;
    for divergence in ALL {
        let full = compare(divergence, &student, 2.0, &target(&wide, &everything(), 2.0, TailPolicy::Bucket)).loss;
        let (mut sum, mut square) = (0.0, 0.0);
        for draw in 0..DRAWS {
            // Evenly spread lots: systematic sampling is a function of the lot alone.
            let lot = (draw as f64 + 0.5) / DRAWS as f64;
            let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
            select_reference(&teacher, 0, &keep, lot, &mut rows, &mut errors);
            let row = rows.iter().next().unwrap();
            let loss = compare(divergence, &student, 2.0, &Target::of(&row, 2.0, TailPolicy::Sampled)).loss;
            sum += loss;
            square += loss * loss;
        }
        let mean = sum / DRAWS as f64;
        let spread = (square / DRAWS as f64 - mean * mean).sqrt();
        // The lots are a grid, so the mean is good to far less than its standard error; the stored f16 add theirs.
        assert!((mean - full).abs() < 0.02 * full + 1e-3 && spread > 1e-3, "{divergence:?}: {mean}, full {full}");
    }
}

#[test]
fn impossible_parameters_and_pairs_say_why() {
    assert!(Divergence::JensenShannon { beta: 1.0 }.check().unwrap_err().contains("beta = 1"));
    assert!(Divergence::SkewForwardKl { lambda: 0.0 }.check().unwrap_err().contains("lambda"));
    assert!(Divergence::AlphaBeta { alpha: 1.0, beta: 0.0 }.check().unwrap_err().contains("limits at 0"));
    assert!(ALL.iter().all(|d| d.check().is_ok()));
    assert!(Divergence::ReverseKl {}.fits(TailPolicy::Renormalize).unwrap_err().contains("bucket"));
    assert!(Divergence::ForwardKl {}.fits(TailPolicy::Renormalize).is_ok());
    let parsed: Divergence = serde_json::from_str(r#"{"kind":"skew_forward_kl"}"#).unwrap();
    assert_eq!(parsed, Divergence::SkewForwardKl { lambda: 0.1 });
    assert!(serde_json::from_str::<Divergence>(r#"{"kind":"forward_kl","beta":1}"#).is_err());
}
