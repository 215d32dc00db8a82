//! 1 - correlation of probabilities, over the classes of a row and over the rows of a batch.

use crate::loss::{ChunkTerm, DeviceTargets, Student};
use burn::tensor::Tensor;

/// Below it there is no spread to correlate.
const SMALLEST: f32 = 1e-12;

pub(super) fn rows(columns: f64, student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Option<Tensor<2>> {
    let tempered = teacher.at(&term.teacher, term.step.tail);
    let log_q = student.log_probs(term.view)?;
    let (p, q) = (tempered.log_probs.clone().exp(), log_q.kept.exp() * teacher.presence());
    let vocab_size = student.vocab_size as f64;
    let mut both = (p.clone() * q.clone()).sum_dim(1);
    if let Some(log_mass) = &tempered.log_mass {
        let outside = -teacher.presence().sum_dim(1) + vocab_size;
        both = both + log_mass.clone().exp() * log_q.other.exp() / outside.clamp_min(1.0);
    }
    let (_, outside) = &student.views[term.half_view?];
    let outside = (outside.clone() - student.log_z(term.view) * 2.0).exp();
    let ours = (q.clone() * q.clone()).sum_dim(1) + outside;
    let theirs = teacher.sum_of_squares(&term.teacher, &tempered);
    let inverse = 1.0 / vocab_size;
    let scale = ((theirs - inverse).clamp_min(SMALLEST) * (ours - inverse).clamp_min(SMALLEST)).sqrt();
    let of_rows = -((both - inverse) / scale) + 1.0;
    if columns == 0.0 {
        return Some(of_rows);
    }
    Some(of_rows + over_the_batch(p, q) * columns)
}

/// The mean over classes of 1 - correlation over the positions. p, q: \[n, classes\]; output: \[1, 1\], to be added at every
/// position.
fn over_the_batch(p: Tensor<2>, q: Tensor<2>) -> Tensor<2> {
    let centred = |x: Tensor<2>| x.clone() - x.mean_dim(0);
    let (p, q) = (centred(p), centred(q));
    let dot = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum_dim(0);
    let scale = (dot(&p, &p) * dot(&q, &q)).clamp_min(SMALLEST * SMALLEST).sqrt();
    -(dot(&p, &q) / scale).mean_dim(1) + 1.0
}
