//! The comparison against numbers of SciPy, NumPy and statsmodels (data/golden/make_comparison.py).

use super::comparison::Sums;
use super::judged::{Judged, ModelRow};
use logitcask_core::math::log_sum_exp;
use logitcask_core::tail::{KnownTail, Tail};
use logitcask_core::{Gold, SoftRow};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    lengths: Vec<usize>,
    teacher: Vec<Vec<f64>>,
    model: Vec<Vec<f64>>,
    labels: Vec<u32>,
    kept: Vec<Vec<u32>>,
    cross_entropy: [f64; 2],
    teacher_cross_entropy: f64,
    excess: [f64; 2],
    square_difference: [f64; 2],
    kl: [f64; 2],
    kl_quantiles: [f64; 3],
    least_overlap: [f64; 2],
    most_overlap: [f64; 2],
    agreement: [f64; 2],
}

impl Golden {
    fn read() -> Self {
        serde_json::from_str(include_str!("../../../../data/golden/comparison.json")).unwrap()
    }

    /// Judges one position as its rows would be if its kept classes were `kept` and the others one class.
    fn judged(&self, position: usize, kept: &[u32], is_dense: bool) -> Judged {
        let (teacher, model, label) = (&self.teacher[position], &self.model[position], self.labels[position]);
        let log_z = log_sum_exp(teacher);
        let log_probs: Vec<f32> = kept.iter().map(|&id| (teacher[id as usize] - log_z) as f32).collect();
        let others = |logits: &[f64]| {
            log_sum_exp(&(0..12).filter(|id| !kept.contains(id)).map(|id| logits[id as usize]).collect::<Vec<_>>())
        };
        let gold = Gold { log_prob: (teacher[label as usize] - log_z) as f32, rank: 0 };
        let tail = Tail { known: KnownTail::Mass { log_mass: others(teacher) - log_z }, ..Tail::default() };
        let tail = if kept.len() == 12 { Tail::default() } else { tail };
        let row = SoftRow { class_ids: kept, log_probs: &log_probs, log_z: log_z as f32, gold, tail, drawn: 0 };
        let best = (0..12).fold(0, |best, id| if model[id] > model[best] { id } else { best }) as u32;
        let logits: Vec<f32> = kept.iter().map(|&id| model[id as usize] as f32).collect();
        let (others, label_logit) = (others(model) as f32, model[label as usize] as f32);
        Judged::new(ModelRow { kept: &logits, others, label: label_logit, best }, &row, label, is_dense, 0)
    }
}

fn close(what: &str, found: f64, golden: f64) {
    assert!((found - golden).abs() < 2e-6 * golden.abs().max(1.0), "{what}: {found}, golden {golden}");
}

#[test]
fn comparison_equals_scipy_and_statsmodels() {
    let golden = Golden::read();
    let judged: Vec<Judged> = (0..golden.labels.len()).map(|i| golden.judged(i, &golden.kept[i], false)).collect();
    let mut sums = Sums::default();
    let mut rest = &judged[..];
    for &length in &golden.lengths {
        let (sample, others) = rest.split_at(length);
        sums.add(sample);
        sums.add(&[]);
        rest = others;
    }
    let comparison = sums.comparison(Some(true));
    assert_eq!((comparison.samples, comparison.positions), (5, 20), "a sample without positions is no observation");
    let teacher = comparison.teacher.unwrap();
    let (label, rows) = (teacher.label.unwrap(), teacher.rows.unwrap());
    let root = |[mean, error]: [f64; 2]| [mean.sqrt(), error / (2.0 * mean.sqrt())];
    let power = |[mean, error]: [f64; 2]| [mean.exp(), error * mean.exp()];
    close("teacher's perplexity", label.teacher_perplexity, golden.teacher_cross_entropy.exp());
    for (what, found, [value, error]) in [
        ("perplexity", comparison.perplexity, power(golden.cross_entropy)),
        ("perplexity ratio", label.perplexity_ratio, power(golden.excess)),
        ("RMS difference", label.rms_difference, root(golden.square_difference)),
        ("KL", rows.kl, golden.kl),
        ("least acceptance", rows.acceptance_lower_bound, golden.least_overlap),
        ("most acceptance", rows.acceptance_upper_bound, golden.most_overlap),
        ("agreement", teacher.top1_agreement.unwrap(), golden.agreement),
    ] {
        close(what, found.value, value);
        close(&format!("error of {what}"), found.error, error);
    }
    close("median", rows.kl_median, golden.kl_quantiles[0]);
    close("99th percentile", rows.kl_99th_percentile, golden.kl_quantiles[1]);
    close("worst", rows.kl_worst, golden.kl_quantiles[2]);
}

/// With every class kept there is no bound: KL and overlap are those over all classes, which the bounds of a row with
/// fewer classes enclose.
#[test]
fn bounds_of_a_short_row_enclose_the_values_of_the_whole_row() {
    let golden = Golden::read();
    let all: Vec<u32> = (0..12).collect();
    for i in 0..golden.labels.len() {
        let (whole, dense) = (golden.judged(i, &all, false), golden.judged(i, &all, true));
        let short = golden.judged(i, &golden.kept[i], false);
        let [p, q] = [&golden.teacher[i], &golden.model[i]].map(|z| z.iter().map(|x| x - log_sum_exp(z)).collect());
        let (p, q): (Vec<f64>, Vec<f64>) = (p, q);
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let overlap: f64 = p.iter().zip(&q).map(|(p, q)| p.exp().min(q.exp())).sum();
        for exact in [whole, dense] {
            close("KL", exact.kl, kl);
            close("overlap", exact.least_overlap, overlap);
            close("overlap", exact.most_overlap, overlap);
        }
        // The rows hold f32.
        let is_at_most = |least: f64, most: f64| least < most + 1e-6;
        assert!(is_at_most(short.kl, kl), "position {i}: KL {} of the short row, {kl} of all", short.kl);
        assert!(is_at_most(short.least_overlap, overlap) && is_at_most(overlap, short.most_overlap), "position {i}");
        close("label", short.label, whole.label);
    }
}

/// A teacher beside itself, and a cache that does not tell the tail or the label.
#[test]
fn what_is_not_known_is_not_told() {
    let golden = Golden::read();
    let judged: Vec<Judged> = (0..5)
        .map(|i| Judged { teacher_label: None, kl: f64::NAN, agrees: None, ..golden.judged(i, &golden.kept[i], false) })
        .collect();
    let mut sums = Sums::default();
    sums.add(&judged);
    let comparison = sums.comparison(Some(false));
    assert!(
        comparison.perplexity.value.is_finite() && comparison.perplexity.error.is_nan(),
        "one sample has no spread"
    );
    let teacher = comparison.teacher.unwrap();
    assert!(teacher.label.is_none() && teacher.rows.is_none() && teacher.top1_agreement.is_none());
    assert!(Sums::default().comparison(None).teacher.is_none());
}
