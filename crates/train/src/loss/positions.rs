//! The loss at each position, from the teacher's row and the student's.

use crate::loss::divergence::cells;
use crate::loss::{StepLoss, Student, Teacher};
use burn::tensor::Tensor;

/// Both parts of the loss, \[n, 1\] each.
pub struct Losses {
    /// The divergence without T², where a teacher is asked.
    pub divergence: Option<Tensor<2>>,
    /// Cross entropy on the labels, where they count.
    pub cross_entropy: Option<Tensor<2>>,
}

/// What `config` asks of n positions.
pub fn losses(student: &Student, teacher: Option<&Teacher>, config: &StepLoss) -> Losses {
    Losses {
        divergence: teacher.and_then(|teacher| divergence(student, teacher, config)),
        cross_entropy: (config.alpha < 1.0).then(|| student.cross_entropy()),
    }
}

fn divergence(student: &Student, teacher: &Teacher, config: &StepLoss) -> Option<Tensor<2>> {
    let temperature = config.temperature;
    let tempered = teacher.at(temperature, config.tail);
    let log_q = student.log_probs(temperature)?;
    let kept = cells(config.divergence, tempered.log_probs, log_q.kept);
    let kept = match &teacher.counts {
        None => kept,
        Some(counts) => kept * counts.clone(),
    };
    let kept = kept.sum_dim(1);
    let Some(log_mass) = tempered.log_mass else { return Some(kept) };
    // A row that holds every class has no cell for the others, whatever the student thinks of them.
    let has_mass = log_mass.clone().greater_elem(NOTHING).float();
    let Some((logits, is_outside)) = &student.all else {
        return Some(kept + cells(config.divergence, log_mass, log_q.other) * has_mass);
    };
    let [n, vocab_size] = logits.dims();
    let outside = is_outside.clone().sum_dim(1).clamp_min(1.0);
    let log_each: Tensor<2> = (log_mass - outside.log()).expand([n, vocab_size]);
    let log_q = logits.clone() / temperature - student.log_z(temperature);
    Some(kept + (cells(config.divergence, log_each, log_q) * is_outside.clone()).sum_dim(1) * has_mass)
}

/// Log of a mass that is none: no tail that was stored is as light.
const NOTHING: f32 = -500.0;
