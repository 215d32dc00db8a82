//! Temperatures and weights per position on tensors, compared with f64.

use crate::golden::assert_close;
use crate::losses::{LABEL, batch_of, cached, term};
use burn::tensor::{Tensor, TensorData};
use logitcask_core::divergence::{ForwardKl, Hellinger, JensenShannon, MeanSquares, Pearson, ReverseKl, compare};
use logitcask_core::math::log_sum_exp;
use logitcask_core::temperature::{RequiredStats, Stat, TemperaturePair, Temperatures, TokenStats};
use logitcask_core::{Divergence, Selection, SoftRow, SoftRows, TailPolicy, TemperedRow};
use logitcask_model::{DeviceChoice, Head};
use logitcask_train::LossConfig;
use logitcask_train::decisions::TokenDecisions;
use logitcask_train::loss::head::{LossTotals, logits_loss};
use logitcask_train::loss::{LossAtStep, Scale, TermAtStep, collect_stats};
use logitcask_train::rules::{Rules, StepTotals};
use logitcask_train::target_spec::TargetSpec;

const VOCAB: usize = 30;
const HEATS: [TemperaturePair; 6] = [
    TemperaturePair { teacher: 1.0, student: 1.0 },
    TemperaturePair { teacher: 2.0, student: 1.0 },
    TemperaturePair { teacher: 4.0, student: 3.0 },
    TemperaturePair { teacher: 0.8, student: 1.7 },
    TemperaturePair { teacher: 1.5, student: 1.5 },
    TemperaturePair { teacher: 9.0, student: 5.0 },
];
const FACTS: TargetSpec = TargetSpec {
    include_sampled: false,
    classes: None,
    target: logitcask_core::TargetTransform::Teacher {},
    label: false,
    stats: true,
    entropy: None,
    similarity: None,
};

/// Loss, gradient of each row, and derivative by the temperature, on tensors.
fn on_tensors(
    rows: &SoftRows,
    students: &[Vec<f64>],
    decisions: &TokenDecisions,
    loss: &LossAtStep,
) -> (f64, Vec<Vec<f64>>, Vec<f64>) {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let rows: Vec<SoftRow> = rows.iter().collect();
    let batch = batch_of(&rows, &[LABEL; 6], &FACTS);
    let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
    let logits = Tensor::<2>::from_data(TensorData::new(values, [students.len(), VOCAB]), &device);
    let mut sums = LossTotals::default();
    let gradient = logits_loss(logits, &batch, decisions, loss, &mut sums).try_into_vec_as::<f32>().unwrap();
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let slopes = sums.slopes.into_iter().flatten().flat_map(|s| wide(&s.try_into_vec_as::<f32>().unwrap()));
    let slopes = slopes.collect();
    (f64::from(sums.loss.unwrap().into_scalar::<f32>()), gradient.chunks(VOCAB).map(wide).collect(), slopes)
}

#[test]
fn each_position_has_its_own_temperatures_scale_and_weight() {
    let (rows, students) = cached(Selection::TopK { k: 5 }, VOCAB);
    let weights = [1.0, 0.0, 0.5, 2.0, 1.0, 0.25];
    for (divergence, tail) in [
        (Divergence::from(ForwardKl {}), TailPolicy::Bucket),
        (ReverseKl {}.into(), TailPolicy::Uniform),
        (Pearson { columns: 0.0 }.into(), TailPolicy::Bucket),
        (MeanSquares { centred: true }.into(), TailPolicy::Bucket),
    ] {
        for scale in [Scale::Squared, Scale::Product, Scale::None] {
            let term = TermAtStep { scale, factor: 3.0, ..term(divergence, tail, 1.0) };
            let decisions = TokenDecisions {
                temperatures: vec![Some(Temperatures::PerToken(HEATS.to_vec()))],
                weights: Some(weights.iter().map(|&w| w as f32).collect()),
                second: None,
            };
            let loss = LossAtStep { alpha: 0.5, ..LossAtStep::teacher(term) };
            let (sum, gradient, _) = on_tensors(&rows, &students, &decisions, &loss);
            let mut wanted = 0.0;
            for (i, (row, student)) in rows.iter().zip(&students).enumerate() {
                let TemperaturePair { teacher, student: t } = HEATS[i];
                let soft = compare(divergence, student, t, &TemperedRow::of(&row, teacher, tail));
                let hard = label_loss(student);
                let scale = match scale {
                    Scale::Squared => teacher * teacher,
                    Scale::Product => teacher * t,
                    Scale::None => 1.0,
                };
                let share = 0.5 * 3.0 * scale * weights[i];
                wanted += share * soft.loss + 0.5 * hard.0;
                for (class, got) in gradient[i].iter().enumerate() {
                    let wanted = share * soft.gradient[class] + 0.5 * hard.1[class];
                    assert_close(*got, wanted, 1e-4, 1e-5, &format!("{divergence:?} {scale:?} row {i} class {class}"));
                }
            }
            assert_close(sum, wanted, 1e-5, 1e-5, &format!("{divergence:?} {scale:?}"));
        }
    }
}

/// Cross entropy with the label, and its gradient.
fn label_loss(student: &[f64]) -> (f64, Vec<f64>) {
    let log_z = log_sum_exp(student);
    let gradient = (0..).zip(student).map(|(i, s)| (s - log_z).exp() - f64::from(i == LABEL)).collect();
    (log_z - student[LABEL as usize], gradient)
}

#[test]
fn the_slope_along_the_temperature_is_that_of_the_cached_row() {
    let (rows, students) = cached(Selection::TopK { k: 5 }, VOCAB);
    for (divergence, tail) in [
        (Divergence::from(ForwardKl {}), TailPolicy::Bucket),
        (ForwardKl {}.into(), TailPolicy::Uniform),
        (JensenShannon { beta: 0.4 }.into(), TailPolicy::Bucket),
        (Pearson { columns: 0.0 }.into(), TailPolicy::Bucket),
    ] {
        for t in [1.0, 3.0] {
            let term = TermAtStep { needs_slopes: true, ..term(divergence, tail, t) };
            let (_, _, slopes) = on_tensors(&rows, &students, &TokenDecisions::default(), &LossAtStep::teacher(term));
            assert_eq!(slopes.len(), 6);
            for ((row, student), slope) in rows.iter().zip(&students).zip(slopes) {
                let at = |t: f64| t * t * compare(divergence, student, t, &TemperedRow::of(&row, t, tail)).loss;
                let found = (at(t + 1e-5) - at(t - 1e-5)) / 2e-5;
                assert_close(slope, found, 1e-3, 1e-4, &format!("{divergence:?} {tail:?} T = {t}"));
            }
        }
    }
}

#[test]
fn the_slope_of_a_cached_row_is_that_of_the_dense_one() {
    // The gradient of a temperature must not depend on the number of kept classes, except for the unavoidable loss of
    // the bucket and the rounding of the atoms.
    let (few, students) = cached(Selection::TopK { k: 24 }, VOCAB);
    let (all, _) = cached(Selection::Dense {}, VOCAB);
    let term = TermAtStep { needs_slopes: true, ..term(ForwardKl {}, TailPolicy::Bucket, 2.0) };
    let [few, all] =
        [few, all].map(|rows| on_tensors(&rows, &students, &TokenDecisions::default(), &LossAtStep::teacher(term)).2);
    for (few, all) in few.iter().zip(&all) {
        assert_close(*few, *all, 0.05, 0.02, "d loss / d T");
    }
}

#[test]
fn temperatures_that_follow_the_spread_of_the_logits_are_followed_by_the_gradient() {
    let (rows, students) = cached(Selection::Dense {}, VOCAB);
    let std = |z: &[f64]| {
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        (z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / z.len() as f64).sqrt()
    };
    let forward = ForwardKl {};
    let times_std = Temperatures::TimesLogitStd { pair: TemperaturePair::same(2.0), range: (0.05, 1000.0) };
    let decisions = TokenDecisions { temperatures: vec![Some(times_std)], ..TokenDecisions::default() };
    let term = term(forward, TailPolicy::Bucket, 1.0);
    let (sum, gradient, _) = on_tensors(&rows, &students, &decisions, &LossAtStep::teacher(term));
    let mut wanted = 0.0;
    for ((row, student), gradient) in rows.iter().zip(&students).zip(&gradient) {
        let (_, spread) = row.logit_moments(0.0);
        let at = |student: &[f64]| {
            let target = TemperedRow::of(&row, 2.0 * spread, TailPolicy::Bucket);
            (2.0 * spread).powi(2) * compare(forward, student, 2.0 * std(student), &target).loss
        };
        wanted += at(student);
        for (class, got) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = student.clone();
                moved[class] += by;
                at(&moved)
            };
            let found = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert_close(*got, found, 1e-3, 1e-3, "d loss / d logit");
        }
    }
    assert_close(sum, wanted, 1e-4, 1e-4, "loss");
}

/// The losses of a curriculum for a student that does not change. `sign` multiplies the derivative that the rule
/// observes.
fn curriculum(instance: bool, sign: f64) -> Vec<f64> {
    let adapt = format!(
        r#"{{"kind":"curriculum","lowest":1,"highest":9,"ramp":0,"learning_rate":0.05,"instance":{instance}}}"#
    );
    let config: LossConfig =
        serde_json::from_str(&format!(r#"{{"alpha":1,"scale":"none","temperature_rule":{adapt}}}"#)).unwrap();
    let selection = Selection::TopK { k: 5 };
    let (rows, students) = cached(selection, VOCAB);
    let mut rules = Rules::new(&config, 0, [&crate::fixture::keep(selection)], VOCAB);
    let seen = seen(&rows, &students, &rules.needs());
    let mut losses = Vec::new();
    for _ in 0..60 {
        let (loss, decisions) = (rules.loss(0.5), rules.decide(0.5, &seen, 6));
        let (sum, _, slopes) = on_tensors(&rows, &students, &decisions, &loss);
        let slopes = vec![slopes.into_iter().map(|slope| sign * slope).collect()];
        rules.observe(&StepTotals { slopes, ..StepTotals::default() }, 6);
        losses.push(sum);
    }
    losses
}

#[test]
fn a_curriculum_makes_the_task_harder_and_without_its_reversal_easier() {
    for instance in [false, true] {
        let (harder, easier) = (curriculum(instance, 1.0), curriculum(instance, -1.0));
        assert_eq!(harder[0], easier[0]);
        assert!(harder[59] > 1.2 * harder[0] && easier[59] < 0.8 * easier[0], "{harder:?} {easier:?}");
    }
}

/// The statistics of the rows that rules with these needs receive.
fn seen(rows: &SoftRows, students: &[Vec<f64>], needs: &RequiredStats) -> Vec<TokenStats> {
    let (device, _) = DeviceChoice::Cpu.open().unwrap();
    let rows: Vec<SoftRow> = rows.iter().collect();
    let batch = batch_of(&rows, &[LABEL; 6], &TargetSpec { entropy: Some((2.0, (0.75, 10.0))), ..FACTS });
    // The hidden states are the logits and the head is the identity, in two pieces.
    let values: Vec<f32> = students.iter().flatten().map(|&s| s as f32).collect();
    let hidden = Tensor::<2>::from_data(TensorData::new(values, [6, VOCAB]), &device);
    collect_stats(&hidden, &Head::new(Tensor::eye(VOCAB, &device), true), &batch, needs, 4).unwrap()
}

#[test]
fn statistics_are_those_of_the_rows() {
    let (rows, students) = cached(Selection::TopK { k: 5 }, VOCAB);
    let needs = RequiredStats::of(&Stat::ALL).or(RequiredStats::of_target_entropy(2.0));
    let seen = seen(&rows, &students, &needs);
    let rows: Vec<SoftRow> = rows.iter().collect();
    assert_eq!(seen.len(), 6);
    for (i, (seen, student)) in seen.iter().zip(&students).enumerate() {
        let close =
            |got: f64, wanted: f64, what: &str| assert_close(got, wanted, 1e-4, 1e-4, &format!("row {i}: {what}"));
        let log_z = log_sum_exp(student);
        let mut sorted = student.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        close(seen.student.log_z, log_z, "log Z");
        close(seen.student.largest, sorted[0], "largest");
        close(seen.student.second, sorted[1], "second");
        close(seen.student.label, student[LABEL as usize] - log_z, "label");
        close(seen.student.entropy, student.iter().map(|s| (s - log_z).exp() * (log_z - s)).sum(), "entropy");
        assert_eq!(seen.is_right, sorted[0] == student[LABEL as usize]);
        assert_eq!(seen.gold_rank, rows[i].gold.rank);
        close(seen.teacher.entropy, rows[i].entropy(1.0), "the teacher's entropy");
        close(rows[i].entropy(seen.target_temperature).clamp(0.0, 2.0), 2.0f64.min(rows[i].entropy(10.0)), "target");
        let hellinger = compare(Hellinger {}, student, 1.0, &TemperedRow::of(&rows[i], 1.0, TailPolicy::Bucket));
        close(seen.distance.powi(2), hellinger.loss, "distance");
        let ours: Vec<f64> = rows[i].class_ids.iter().map(|&id| student[id as usize]).collect();
        let theirs: Vec<f64> = rows[i].log_probs.iter().map(|lp| f64::from(lp + rows[i].log_z)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        close(seen.cosine, dot(&theirs, &ours) / (dot(&theirs, &theirs) * dot(&ours, &ours)).sqrt(), "cosine");
    }
}
