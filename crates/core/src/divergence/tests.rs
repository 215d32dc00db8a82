use super::*;
use crate::math::log_sum_exp;
use crate::rng::CounterRng;
use crate::select::select_reference;
use crate::tests::keep;
use crate::{RowErrors, Selection, SoftRows};

const VOCAB: usize = 24;

/// What another framework says of a divergence on the row of [`every_divergence_is_what_another_framework_computes`].
pub struct Golden {
    pub loss: f64,
    pub gradient: [f64; 6],
}

fn all() -> impl Iterator<Item = Divergence> {
    Divergence::ALL.iter().flat_map(Divergence::tested)
}

fn policies(divergence: &Divergence) -> impl Iterator<Item = TailPolicy> {
    let fits = |policy: &TailPolicy| divergence.check_tail_policy(*policy).is_ok();
    TailPolicy::ALL.into_iter().filter(|policy| *policy != TailPolicy::Sampled).filter(fits)
}

#[test]
fn every_divergence_is_what_another_framework_computes() {
    let (teacher, student) = ([0.5, 2.0, -1.0, 0.25, 3.0, -2.0], [1.0, 0.5, 0.0, -0.5, 2.0, 1.5]);
    let target = target(&teacher, &[4, 1, 0], 2.0, TailPolicy::Bucket);
    for divergence in Divergence::ALL {
        let (Golden { loss, gradient }, found) = (divergence.golden(), compare(*divergence, &student, 2.0, &target));
        assert!((found.loss - loss).abs() < 1e-12, "{divergence:?}: {}, golden {loss}", found.loss);
        for (found, golden) in found.gradient.iter().zip(gradient) {
            assert!((found - golden).abs() < 1e-12, "{divergence:?}: {found}, golden {golden}");
        }
    }
}

#[test]
fn recipes_call_a_divergence_by_the_name_of_its_file() {
    for divergence in all() {
        let written = serde_json::to_value(divergence).unwrap();
        assert_eq!(written["kind"], divergence.name());
        assert_eq!(serde_json::from_value::<Divergence>(written).unwrap(), divergence);
    }
    for divergence in Divergence::ALL {
        let read: Divergence = serde_json::from_value(serde_json::json!({ "kind": divergence.name() })).unwrap();
        assert_eq!(read, *divergence, "parameters that are left out");
    }
}

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
            for policy in policies(&divergence) {
                let mut target = target(&teacher, &[7, 0, 3, 11], temperature, policy);
                // A class drawn at random stands for more than itself.
                target.counts[2] = if divergence.is_sum_over_classes() { 1.5 } else { 1.0 };
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
fn terms_in_f32_are_those_in_f64() {
    let (teacher, student) = (log_softmax(&logits(20), 1.0), log_softmax(&logits(21), 1.0));
    for divergence in all().filter(OverRows::is_sum_over_classes) {
        let (mut values, mut slopes) = (vec![0.0; VOCAB], vec![0.0; VOCAB]);
        divergence.eval_terms(&teacher, &student, &mut values, &mut slopes);
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
        let (mut narrow_values, mut narrow_slopes) = (vec![0.0f32; VOCAB], vec![0.0f32; VOCAB]);
        divergence.eval_terms(&narrow(&teacher), &narrow(&student), &mut narrow_values, &mut narrow_slopes);
        let both = [(values, narrow_values), (slopes, narrow_slopes)];
        for (wide, narrow) in both.iter().flat_map(|(wide, narrow)| wide.iter().zip(narrow)) {
            assert!((wide - f64::from(*narrow)).abs() < 3e-6, "{divergence:?}: {narrow}, in f64 {wide}");
        }
    }
}

#[test]
fn every_divergence_is_zero_at_the_teacher_alone() {
    let (teacher, student) = (logits(1), logits(2));
    for divergence in all() {
        for policy in [TailPolicy::Bucket, TailPolicy::Uniform] {
            let target = target(&teacher, &everything(), 1.5, policy);
            if matches!(divergence, Divergence::Spearman(_)) {
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
        for divergence in all().filter(|d| d.is_sum_over_classes() && !matches!(d, Divergence::AlphaBeta(_))) {
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
    let (forward, reverse) = (loss(Divergence::ForwardKl(ForwardKl {})), loss(Divergence::ReverseKl(ReverseKl {})));
    close(loss(Divergence::AlphaBeta(AlphaBeta { alpha: 1.0, beta: 1e-6 })), forward, 1e-4);
    close(loss(Divergence::AlphaBeta(AlphaBeta { alpha: 1e-6, beta: 1.0 })), reverse, 1e-4);
    close(
        loss(Divergence::AlphaBeta(AlphaBeta { alpha: 0.5, beta: 0.5 })),
        4.0 * loss(Divergence::Hellinger(Hellinger {})),
        1e-12,
    );
    close(loss(Divergence::SkewForwardKl(SkewForwardKl { lambda: 1e-9 })), forward, 1e-6);
    close(loss(Divergence::SkewReverseKl(SkewReverseKl { lambda: 1e-9 })), reverse, 1e-6);
    // Jensen-Shannon over beta tends to forward KL, over 1 - beta to reverse KL (2306.13649).
    close(loss(Divergence::JensenShannon(JensenShannon { beta: 1e-7 })) / 1e-7, forward, 1e-4);
    close(loss(Divergence::JensenShannon(JensenShannon { beta: 1.0 - 1e-7 })) / 1e-7, reverse, 1e-4);
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
    let (middle, wide) = nearest_bell(Divergence::ForwardKl(ForwardKl {}));
    assert!(middle > 14.0 && middle < 22.0 && wide > 8.0, "covers both: {middle}, {wide}");
    for divergence in [
        Divergence::ReverseKl(ReverseKl {}),
        Divergence::SkewReverseKl(SkewReverseKl { lambda: 0.1 }),
        Divergence::TotalVariation(TotalVariation {}),
        Divergence::Hellinger(Hellinger {}),
    ] {
        let (middle, width) = nearest_bell(divergence);
        assert!((middle - 10.0).abs() <= 0.5 && width < 4.0, "{divergence:?} seeks the larger: {middle}, {width}");
    }
    // What lies between them leans to the side that its parameter says.
    let width = |divergence| nearest_bell(divergence).1;
    let jensen = |beta| width(Divergence::JensenShannon(JensenShannon { beta }));
    assert!(jensen(0.1) > 8.0 && jensen(0.9) < 3.0, "{} {}", jensen(0.1), jensen(0.9));
    let both = |alpha, beta| width(Divergence::AlphaBeta(AlphaBeta { alpha, beta }));
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
    assert!(steepest(Divergence::ReverseKl(ReverseKl {})) > 10.0);
    for bounded in [
        Divergence::SkewReverseKl(SkewReverseKl { lambda: 0.1 }),
        Divergence::TotalVariation(TotalVariation {}),
        Divergence::Hellinger(Hellinger {}),
    ] {
        assert!(steepest(bounded) < 1.5, "{bounded:?}: {}", steepest(bounded));
    }
}

#[test]
fn a_transformed_teacher_is_met_by_a_student_without_a_temperature() {
    // TTM (2402.11148): heating the teacher alone is a power transform of it.
    let teacher = logits(12);
    let target = target(&teacher, &everything(), 2.5, TailPolicy::Bucket);
    let softened: Vec<f64> = teacher.iter().map(|z| z / 2.5).collect();
    let at =
        |student: &[f64], temperature| compare(Divergence::ForwardKl(ForwardKl {}), student, temperature, &target).loss;
    assert!(at(&softened, 1.0).abs() < 1e-12 && at(&teacher, 1.0) > 0.05);
    let power: Vec<f64> = log_softmax(&teacher, 1.0).iter().map(|lp| lp / 2.5).collect();
    assert!(at(&power, 1.0).abs() < 1e-12, "log p / T is log p^(1/T) but for a constant");
}

#[test]
fn a_constant_on_every_teacher_logit_is_seen_by_raw_logits_alone() {
    let (teacher, student) = (logits(5), logits(6));
    let moved: Vec<f64> = teacher.iter().map(|z| z + 7.3).collect();
    for divergence in all() {
        for policy in policies(&divergence) {
            let [a, b] = [&teacher, &moved].map(|teacher| target(teacher, &[1, 9, 4], 2.0, policy));
            let [a, b] = [a, b].map(|target| compare(divergence, &student, 2.0, &target).loss);
            let is_same = (a - b).abs() < 1e-12;
            assert_eq!(
                is_same,
                !divergence.needs_logits() || divergence.needs_mean_logit(),
                "{divergence:?} {policy:?}: {a} and {b}"
            );
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
    for divergence in all().filter(|d| d.is_sum_over_classes() && d.check_tail_policy(TailPolicy::Sampled).is_ok()) {
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
    let refused = |divergence: Divergence| divergence.check().unwrap_err().to_string();
    assert!(refused(JensenShannon { beta: 1.0 }.into()).contains("beta = 1"));
    assert!(refused(SkewForwardKl { lambda: 0.0 }.into()).contains("lambda = 0"));
    assert!(refused(AlphaBeta { alpha: 1.0, beta: 0.0 }.into()).contains("limits at 0"));
    assert!(refused(Decoupled { label: -1.0, others: 1.0 }.into()).contains("label = -1"));
    assert!(all().all(|d| d.check().is_ok()));
    let refused = |divergence: Divergence, policy| divergence.check_tail_policy(policy).unwrap_err().to_string();
    assert!(refused(ReverseKl {}.into(), TailPolicy::Renormalize).contains("\"bucket\""));
    assert!(refused(Decoupled::DEFAULT.into(), TailPolicy::Uniform).contains("it must be \"bucket\""));
    assert!(refused(Pearson::DEFAULT.into(), TailPolicy::Renormalize).contains("over all classes"));
    assert!(refused(MeanSquares::DEFAULT.into(), TailPolicy::Uniform).contains("log-sum-exp"));
    assert!(ForwardKl {}.check_tail_policy(TailPolicy::Renormalize).is_ok());
    assert!(all().all(|d| d.check_tail_policy(TailPolicy::Bucket).is_ok()), "the default goes with all");
    let parsed: Divergence = serde_json::from_str(r#"{"kind":"skew_forward_kl"}"#).unwrap();
    assert_eq!(parsed, SkewForwardKl { lambda: 0.1 }.into());
    assert!(serde_json::from_str::<Divergence>(r#"{"kind":"forward_kl","beta":1}"#).is_err());
    let unknown = serde_json::from_str::<Divergence>(r#"{"kind":"backward_kl"}"#).unwrap_err().to_string();
    assert!(Divergence::ALL.iter().all(|known| unknown.contains(known.name())), "{unknown}");
}

#[test]
fn decoupled_parts_add_up_to_forward_kl() {
    // KL = KL of the label against the others + (1 - P) KL among the others.
    let (teacher, student) = (logits(9), logits(10));
    for kept in [everything(), vec![3, 8, 2]] {
        let target = target(&teacher, &kept, 2.0, TailPolicy::Bucket);
        let p = target.log_probs[1].exp();
        let at = |label, others| compare(Divergence::Decoupled(Decoupled { label, others }), &student, 2.0, &target);
        let (split, whole) = (at(1.0, 1.0 - p), compare(Divergence::ForwardKl(ForwardKl {}), &student, 2.0, &target));
        assert!((split.loss - whole.loss).abs() < 1e-12);
        assert!(split.gradient.iter().zip(&whole.gradient).all(|(a, b)| (a - b).abs() < 1e-12));
        // Nothing to say of the label's own probability: a student sure of it pays for the others alone.
        let mut sure = student.clone();
        sure[kept[1] as usize] += 5.0;
        let others = Divergence::Decoupled(Decoupled { label: 0.0, others: 1.0 });
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
    assert!(compare(Divergence::Spearman(Spearman {}), &bent, 0.01, &target).loss < 1e-6);
    let reversed: Vec<f64> = teacher.iter().map(|z| -z).collect();
    assert!((compare(Divergence::Spearman(Spearman {}), &reversed, 1e-4, &target).loss - 2.0).abs() < 1e-6);
    // Probabilities half way to uniform are an affine map of the teacher's.
    let p: Vec<f64> = target.log_probs.iter().map(|lp| lp.exp()).collect();
    let flat: Vec<f64> = p.iter().map(|p| (0.5 * p + 0.5 / VOCAB as f64).ln()).collect();
    assert!(compare(Divergence::Pearson(Pearson { columns: 0.0 }), &flat, 1.0, &target).loss.abs() < 1e-12);
    assert!(compare(Divergence::ForwardKl(ForwardKl {}), &flat, 1.0, &target).loss > 0.01);
}

#[test]
fn correlation_over_the_batch_agrees_with_finite_differences() {
    let targets: Vec<TemperedRow> =
        (0..4).map(|i| target(&logits(i), &everything(), 2.0, TailPolicy::Bucket)).collect();
    let students: Vec<Vec<f64>> = (0..4).map(|i| logits(i + 50)).collect();
    let at = |columns: f64, students: &[Vec<f64>]| {
        let students: Vec<&[f64]> = students.iter().map(Vec::as_slice).collect();
        compare_batch(Pearson { columns }, &students, 2.0, &targets)
    };
    let sum = |columns, students: &[Vec<f64>]| at(columns, students).iter().map(|row| row.loss).sum::<f64>();
    let of_columns = (sum(1.0, &students) - sum(0.0, &students)) / 4.0;
    assert!(of_columns > 0.1 && of_columns < 2.0, "{of_columns}");
    for (row, Comparison { gradient, .. }) in at(3.0, &students).into_iter().enumerate() {
        let loss = |moved: &[f64]| {
            let mut all = students.clone();
            all[row] = moved.to_vec();
            sum(3.0, &all)
        };
        for (exact, found) in gradient.iter().zip(slopes(loss, &students[row])) {
            assert!((exact - found).abs() < 1e-7, "{exact}, found {found}");
        }
    }
}
