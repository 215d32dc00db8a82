use super::*;
use crate::rng::CounterRng;
use crate::select::select_reference;
use crate::tests::keep;
use crate::{RowErrors, Selection, SoftRows};

const VOCAB: usize = 24;

const CELLS: [Divergence; 8] = [
    Divergence::ForwardKl {},
    Divergence::ReverseKl {},
    Divergence::JensenShannon { beta: 0.3 },
    Divergence::SkewForwardKl { lambda: 0.1 },
    Divergence::SkewReverseKl { lambda: 0.1 },
    Divergence::TotalVariation {},
    Divergence::Hellinger {},
    Divergence::AlphaBeta { alpha: 0.2, beta: 0.7 },
];

const ROWS: [Divergence; 5] = [
    Divergence::MeanSquares { centred: false },
    Divergence::MeanSquares { centred: true },
    Divergence::Decoupled { label: 1.0, others: 3.0 },
    Divergence::Pearson { columns: 0.0 },
    Divergence::Spearman {},
];

fn all() -> impl Iterator<Item = Divergence> {
    CELLS.into_iter().chain(ROWS)
}

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
fn target(teacher: &[f64], kept: &[u32], temperature: f64, policy: TailPolicy) -> TemperedRow {
    let log_p = log_softmax(teacher, temperature);
    let mut log_probs: Vec<f64> = kept.iter().map(|&id| log_p[id as usize]).collect();
    let outside: Vec<f64> = (0..).zip(&log_p).filter(|(id, _)| !kept.contains(id)).map(|(_, log_p)| *log_p).collect();
    let log_mass = log_sum_exp(&outside);
    let rest = match policy {
        _ if outside.is_empty() => Remainder::Nothing,
        TailPolicy::Bucket => Remainder::Bucket { log_mass },
        TailPolicy::Uniform => Remainder::Uniform { log_mass },
        TailPolicy::Renormalize | TailPolicy::Sampled => Remainder::Nothing,
    };
    let base = log_sum_exp(&log_probs);
    if policy == TailPolicy::Renormalize {
        log_probs.iter_mut().for_each(|lp| *lp -= base);
    }
    let scaled: Vec<f64> = teacher.iter().map(|z| z / temperature).collect();
    TemperedRow {
        class_ids: kept.to_vec(),
        counts: vec![1.0; kept.len()],
        log_probs,
        rest,
        label: Some(1),
        log_z: log_sum_exp(&scaled) + if policy == TailPolicy::Renormalize { base } else { 0.0 },
        mean_logit: scaled.iter().sum::<f64>() / teacher.len() as f64,
        sum_of_squares: log_p.iter().map(|lp| (2.0 * lp).exp()).sum(),
    }
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
        for divergence in all() {
            for policy in POLICIES.into_iter().filter(|policy| divergence.check_tail_policy(*policy).is_ok()) {
                let mut target = target(&teacher, &[7, 0, 3, 11], temperature, policy);
                // A class drawn at random stands for more than itself.
                target.counts[2] = if CELLS.contains(&divergence) { 1.5 } else { 1.0 };
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
    for divergence in all() {
        for policy in [TailPolicy::Bucket, TailPolicy::Uniform] {
            let target = target(&teacher, &everything(), 1.5, policy);
            if divergence == (Divergence::Spearman {}) {
                // Softened ranks never are the whole ones.
                assert!(compare(divergence, &teacher, 0.01, &target).loss < 1e-3);
                continue;
            }
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
        for divergence in CELLS.into_iter().filter(|d| !matches!(d, Divergence::AlphaBeta { .. })) {
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

/// The bell curve over 41 classes that a divergence finds nearest to a teacher of two peaks: its middle and its width.
fn nearest_bell(divergence: Divergence) -> (f64, f64) {
    let bell = |middle: f64, width: f64| (0..41).map(move |i| -0.5 * ((f64::from(i) - middle) / width).powi(2));
    let teacher: Vec<f64> =
        bell(10.0, 2.0).zip(bell(30.0, 2.0)).map(|(a, b)| (0.6 * a.exp() + 0.4 * b.exp() + 1e-9).ln()).collect();
    let ids: Vec<u32> = (0..41).collect();
    let target = target(&teacher, &ids, 1.0, TailPolicy::Bucket);
    let loss =
        |(middle, width): (f64, f64)| compare(divergence, &bell(middle, width).collect::<Vec<_>>(), 1.0, &target).loss;
    let grid = (0..=80).flat_map(|m| (2..60).map(move |w| (f64::from(m) / 2.0, f64::from(w) / 4.0)));
    grid.min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap()
}

#[test]
fn forward_kl_covers_and_reverse_kl_seeks() {
    // 2306.08543, 2306.13649, 2402.03898, 2505.04560: what a student leaves out that cannot be all that the teacher is.
    let (middle, wide) = nearest_bell(Divergence::ForwardKl {});
    assert!(middle > 14.0 && middle < 22.0 && wide > 8.0, "covers both: {middle}, {wide}");
    for divergence in [
        Divergence::ReverseKl {},
        Divergence::SkewReverseKl { lambda: 0.1 },
        Divergence::TotalVariation {},
        Divergence::Hellinger {},
    ] {
        let (middle, width) = nearest_bell(divergence);
        assert!((middle - 10.0).abs() <= 0.5 && width < 4.0, "{divergence:?} seeks the larger: {middle}, {width}");
    }
    // What lies between them leans to the side that its parameter says.
    let width = |divergence| nearest_bell(divergence).1;
    let jensen = |beta| width(Divergence::JensenShannon { beta });
    assert!(jensen(0.1) > 8.0 && jensen(0.9) < 3.0, "{} {}", jensen(0.1), jensen(0.9));
    let both = |alpha, beta| width(Divergence::AlphaBeta { alpha, beta });
    assert!(both(0.9, 0.1) > 8.0 && both(0.2, 0.7) < 3.0, "{} {}", both(0.9, 0.1), both(0.2, 0.7));
}

#[test]
fn skewing_bounds_what_a_hopeless_class_costs() {
    // Half of the student's mass lies where the teacher has e^-50.
    let target = target(&[0.0, -50.0, -51.0], &[0, 1, 2], 1.0, TailPolicy::Bucket);
    let student = [0.0, 0.0, -3.0];
    let steepest = |divergence| {
        let gradient = compare(divergence, &student, 1.0, &target).gradient;
        gradient.into_iter().fold(0.0f64, |most, g| most.max(g.abs()))
    };
    assert!(steepest(Divergence::ReverseKl {}) > 10.0);
    for bounded in [Divergence::SkewReverseKl { lambda: 0.1 }, Divergence::TotalVariation {}, Divergence::Hellinger {}]
    {
        assert!(steepest(bounded) < 1.5, "{bounded:?}: {}", steepest(bounded));
    }
}

#[test]
fn a_transformed_teacher_is_met_by_a_student_without_a_temperature() {
    // TTM (2402.11148): heating the teacher alone is a power transform of it.
    let teacher = logits(12);
    let target = target(&teacher, &everything(), 2.5, TailPolicy::Bucket);
    let softened: Vec<f64> = teacher.iter().map(|z| z / 2.5).collect();
    let at = |student: &[f64], temperature| compare(Divergence::ForwardKl {}, student, temperature, &target).loss;
    assert!(at(&softened, 1.0).abs() < 1e-12 && at(&teacher, 1.0) > 0.05);
    let power: Vec<f64> = log_softmax(&teacher, 1.0).iter().map(|lp| lp / 2.5).collect();
    assert!(at(&power, 1.0).abs() < 1e-12, "log p / T is log p^(1/T) but for a constant");
}

#[test]
fn a_constant_on_every_teacher_logit_is_seen_by_raw_logits_alone() {
    let (teacher, student) = (logits(5), logits(6));
    let moved: Vec<f64> = teacher.iter().map(|z| z + 7.3).collect();
    for divergence in all() {
        for policy in POLICIES.into_iter().filter(|policy| divergence.check_tail_policy(*policy).is_ok()) {
            let [a, b] = [&teacher, &moved].map(|teacher| target(teacher, &[1, 9, 4], 2.0, policy));
            let [a, b] = [a, b].map(|target| compare(divergence, &student, 2.0, &target).loss);
            let is_same = (a - b).abs() < 1e-12;
            assert_eq!(is_same, !divergence.depends_on_logit_scale(), "{divergence:?} {policy:?}: {a} and {b}");
        }
    }
}

#[test]
fn sampled_classes_give_the_full_divergence_on_average() {
    // Of 24 classes 6 are kept for sure or drawn; any term function is estimated without bias at any temperature.
    let teacher: Vec<f32> = logits(7).iter().map(|&z| z as f32).collect();
    let (wide, student) = (logits(7), logits(8));
    let keep = keep(Selection::Sample { n: 6, seed: 0 });
    const DRAWS: usize = 4000;
    for divergence in CELLS {
        let full = compare(divergence, &student, 2.0, &target(&wide, &everything(), 2.0, TailPolicy::Bucket)).loss;
        let (mut sum, mut square) = (0.0, 0.0);
        for draw in 0..DRAWS {
            // Evenly spread offsets: systematic sampling is a function of the offset alone.
            let sampling_offset = (draw as f64 + 0.5) / DRAWS as f64;
            let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
            select_reference(&teacher, 0, &keep, sampling_offset, &mut rows, &mut errors);
            let row = rows.iter().next().unwrap();
            let loss = compare(divergence, &student, 2.0, &TemperedRow::of(&row, 2.0, TailPolicy::Sampled)).loss;
            sum += loss;
            square += loss * loss;
        }
        let mean = sum / DRAWS as f64;
        let spread = (square / DRAWS as f64 - mean * mean).sqrt();
        // The offsets are a grid, so the mean is good to far less than its standard error; the stored f16 add theirs.
        assert!((mean - full).abs() < 0.02 * full + 1e-3 && spread > 1e-3, "{divergence:?}: {mean}, full {full}");
    }
}

#[test]
fn impossible_parameters_and_pairs_say_why() {
    assert!(Divergence::JensenShannon { beta: 1.0 }.check().unwrap_err().contains("beta = 1"));
    assert!(Divergence::SkewForwardKl { lambda: 0.0 }.check().unwrap_err().contains("lambda"));
    assert!(Divergence::AlphaBeta { alpha: 1.0, beta: 0.0 }.check().unwrap_err().contains("limits at 0"));
    assert!(all().all(|d| d.check().is_ok()));
    assert!(Divergence::ReverseKl {}.check_tail_policy(TailPolicy::Renormalize).unwrap_err().contains("bucket"));
    assert!(Divergence::ForwardKl {}.check_tail_policy(TailPolicy::Renormalize).is_ok());
    assert!(ROWS[2].check_tail_policy(TailPolicy::Uniform).unwrap_err().contains("\"bucket\" alone"));
    assert!(ROWS[3].check_tail_policy(TailPolicy::Renormalize).unwrap_err().contains("over all classes"));
    assert!(ROWS[0].check_tail_policy(TailPolicy::Uniform).unwrap_err().contains("log-sum-exp"));
    assert!(Divergence::Decoupled { label: -1.0, others: 1.0 }.check().unwrap_err().contains("label = -1"));
    let parsed: Divergence = serde_json::from_str(r#"{"kind":"skew_forward_kl"}"#).unwrap();
    assert_eq!(parsed, Divergence::SkewForwardKl { lambda: 0.1 });
    assert!(serde_json::from_str::<Divergence>(r#"{"kind":"forward_kl","beta":1}"#).is_err());
}

#[test]
fn decoupled_parts_add_up_to_forward_kl() {
    // KL = KL of the label against the others + (1 - P) KL among the others.
    let (teacher, student) = (logits(9), logits(10));
    for kept in [everything(), vec![3, 8, 2]] {
        let target = target(&teacher, &kept, 2.0, TailPolicy::Bucket);
        let p = target.log_probs[1].exp();
        let at = |label, others| compare(Divergence::Decoupled { label, others }, &student, 2.0, &target);
        let (split, whole) = (at(1.0, 1.0 - p), compare(Divergence::ForwardKl {}, &student, 2.0, &target));
        assert!((split.loss - whole.loss).abs() < 1e-12);
        assert!(split.gradient.iter().zip(&whole.gradient).all(|(a, b)| (a - b).abs() < 1e-12));
        // Nothing to say of the label's own probability: a student sure of it pays for the others alone.
        let mut sure = student.clone();
        sure[kept[1] as usize] += 5.0;
        let others = Divergence::Decoupled { label: 0.0, others: 1.0 };
        let (a, b) = (compare(others, &student, 2.0, &target).loss, compare(others, &sure, 2.0, &target).loss);
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }
}

#[test]
fn correlations_see_what_they_are_meant_to() {
    let teacher = logits(11);
    let target = target(&teacher, &everything(), 1.0, TailPolicy::Bucket);
    // Ranks: any monotone map of the student's logits will do.
    let bent: Vec<f64> = teacher.iter().map(|z| 100.0 * z.powi(3)).collect();
    assert!(compare(Divergence::Spearman {}, &bent, 0.01, &target).loss < 1e-6);
    let reversed: Vec<f64> = teacher.iter().map(|z| -z).collect();
    assert!((compare(Divergence::Spearman {}, &reversed, 1e-4, &target).loss - 2.0).abs() < 1e-6);
    // Probabilities half way to uniform are an affine map of the teacher's.
    let p: Vec<f64> = target.log_probs.iter().map(|lp| lp.exp()).collect();
    let flat: Vec<f64> = p.iter().map(|p| (0.5 * p + 0.5 / VOCAB as f64).ln()).collect();
    assert!(compare(Divergence::Pearson { columns: 0.0 }, &flat, 1.0, &target).loss.abs() < 1e-12);
    assert!(compare(Divergence::ForwardKl {}, &flat, 1.0, &target).loss > 0.01);
}

#[test]
fn correlation_over_the_batch_agrees_with_finite_differences() {
    let teacher: Vec<Vec<f64>> =
        (0..4).map(|i| log_softmax(&logits(i), 2.0).iter().map(|lp| lp.exp()).collect()).collect();
    let student: Vec<Vec<f64>> = (0..4).map(|i| logits(i + 50)).collect();
    let (loss, gradient) = pearson::columns(&teacher, &student, 2.0);
    assert!(loss > 0.1 && loss < 2.0);
    for (row, exact) in gradient.iter().enumerate() {
        let at = |moved: &[f64]| {
            let mut all = student.clone();
            all[row] = moved.to_vec();
            pearson::columns(&teacher, &all, 2.0).0
        };
        for (exact, found) in exact.iter().zip(slopes(at, &student[row])) {
            assert!((exact - found).abs() < 1e-8, "{exact}, found {found}");
        }
    }
}
