//! Divergences in f64 with their gradients: the reference that a trainer's fast code must agree with.

use super::formula::{Compared, OverRows, Terms};
use super::matrix::Matrix;
use super::number::{Number, Rows};
use super::tempered::NO_CLASS;
use super::tempered_row::{Remainder, TemperedRow};

/// The loss at one position and its gradient.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// In nats, without any factor for the temperature.
    pub loss: f64,
    /// d loss / d student logit, one value for each class of the vocabulary.
    pub gradient: Vec<f64>,
}

/// Evaluates `divergence` between `target` and softmax(`student` / `temperature`), where `student` covers the whole
/// vocabulary.
pub fn compare(divergence: impl OverRows, student: &[f64], temperature: f64, target: &TemperedRow) -> Comparison {
    let done = compare_batch(divergence, &[student], temperature, std::slice::from_ref(target)).pop();
    done.unwrap_or_else(|| unreachable!("one position goes in"))
}

/// [`compare`] at several positions, whose rows must all keep the same number of classes. For a divergence that
/// compares positions ([`super::Properties::compares_positions`]), the gradient is that of the sum of all losses.
///
/// # Panics
/// If rows keep different numbers of classes, or there are no positions.
pub fn compare_batch(
    divergence: impl OverRows,
    students: &[&[f64]],
    temperature: f64,
    targets: &[TemperedRow],
) -> Vec<Comparison> {
    let (n, vocab_size) = (students.len(), students[0].len());
    let logits = Matrix::variable(n, vocab_size, students.concat());
    let compared =
        compared(&divergence, logits.clone() / Matrix::constant(1, 1, vec![temperature]), vocab_size, targets);
    let losses = divergence.of_rows(&compared);
    let gradient = losses.gradient(&logits);
    let gradients = gradient.chunks(vocab_size).map(<[f64]>::to_vec);
    losses.values().iter().zip(gradients).map(|(&loss, gradient)| Comparison { loss, gradient }).collect()
}

/// `scaled` holds the student's logits divided by its temperature, \[n, vocabulary\].
fn compared(
    divergence: &impl OverRows,
    scaled: Matrix,
    vocab_size: usize,
    targets: &[TemperedRow],
) -> Compared<Matrix> {
    let mut kept_ids: Vec<Vec<usize>> = targets.iter().map(kept_ids).collect();
    let outside_ids: Vec<Vec<usize>> =
        kept_ids.iter().map(|kept| (0..vocab_size).filter(|id| !kept.contains(id)).collect()).collect();
    let is_same = kept_ids.iter().all(|ids| ids.len() == kept_ids[0].len());
    assert!(is_same, "rows that keep different numbers of classes cannot be compared together");
    // Rows without a kept class have one empty place, as a trainer's have.
    let width = kept_ids[0].len().max(1);
    kept_ids.iter_mut().for_each(|ids| ids.resize(width, 0));
    let rows = |of: &dyn Fn(&TemperedRow) -> Vec<f64>, filler: f64| {
        let row = |target: &TemperedRow| {
            let mut row = of(target);
            row.resize(width, filler);
            row
        };
        Matrix::constant(targets.len(), width, targets.iter().flat_map(row).collect())
    };
    let column = |of: &dyn Fn(&TemperedRow) -> f64| Matrix::column(targets.iter().map(of).collect());
    let log_z = scaled.clone().log_sum_exp();
    let log_q = scaled.clone() - log_z.clone();
    let kept = Terms {
        log_p: rows(&|target| target.log_probs.clone(), NO_CLASS),
        log_q: log_q.clone().gather(&kept_ids),
        counts: Some(rows(&|target| target.counts.clone(), 0.0)),
    };
    let label =
        |target: &TemperedRow| (0..target.class_ids.len()).map(|i| f64::from(target.label == Some(i))).collect();
    let mean_logits = || {
        let mean = |matrix: Matrix| matrix.sum() * (1.0 / vocab_size as f64);
        [column(&|target| target.mean_logit), mean(scaled.clone())]
    };
    let to_logits = || {
        let log_z = [column(&|target| target.log_z), log_z.clone()];
        match divergence.needs_mean_logit() {
            false => log_z,
            true => {
                let [[teacher, student], [teacher_mean, student_mean]] = [log_z, mean_logits()];
                [teacher - teacher_mean, student - student_mean]
            }
        }
    };
    let squares = || [column(&|target| target.sum_of_squares), (log_q.clone() * 2.0).exp().sum()];
    Compared {
        kept,
        outside: outside(divergence, log_q.clone().gather(&outside_ids), targets),
        label: divergence.needs_label().then(|| rows(&label, 0.0)),
        log_z: divergence.needs_logits().then(to_logits),
        squares: divergence.needs_squares().then(squares),
        vocab_size,
    }
}

fn kept_ids(target: &TemperedRow) -> Vec<usize> {
    target.class_ids.iter().map(|&id| id as usize).collect()
}

/// `log_q` holds the log-probabilities of the classes that were not kept, \[n, classes outside\].
fn outside(divergence: &impl OverRows, log_q: Matrix, targets: &[TemperedRow]) -> Option<Terms<Matrix>> {
    let classes = log_q.values().len() as f64 / targets.len() as f64;
    let is_each =
        |target: &TemperedRow| matches!(target.rest, Remainder::Uniform { .. }) && divergence.is_sum_over_classes();
    let log_mass = |target: &TemperedRow| match target.rest {
        Remainder::Nothing => None,
        Remainder::Uniform { log_mass } if is_each(target) => Some(log_mass - classes.ln()),
        Remainder::Bucket { log_mass } | Remainder::Uniform { log_mass } => Some(log_mass),
    };
    let log_p = Matrix::column(targets.iter().map(log_mass).collect::<Option<Vec<f64>>>()?);
    let log_q = if is_each(&targets[0]) { log_q } else { log_q.log_sum_exp() };
    Some(Terms { log_p, log_q, counts: None })
}
