//! 1 - correlation of ranks among the kept classes, the student's softened.

use crate::loss::{ChunkTerm, DeviceTargets, Student};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

/// Below it there is no spread to correlate.
const SMALLEST: f32 = 1e-12;

pub(super) fn rows(student: &Student, teacher: &DeviceTargets, term: &ChunkTerm) -> Option<Tensor<2>> {
    let (temperature, _) = &student.views[term.view];
    let ours = temperature.divide(student.kept.clone()?);
    let theirs = teacher.stored();
    let [n, k] = theirs.dims();
    let presence = teacher.presence();
    let pairs = presence.clone().reshape([n, 1, k]) * presence.clone().reshape([n, k, 1]);
    // \[n, i, j\]: how much class j stands before class i.
    let before = |x: Tensor<2>| x.clone().reshape([n, 1, k]) - x.reshape([n, k, 1]);
    let ahead = before(theirs);
    let ahead = ahead.clone().greater_elem(0.0).float() + ahead.equal_elem(0.0).float() * 0.5;
    // Half a place ahead of oneself on both sides: it shifts all ranks alike.
    let rank = |ahead: Tensor<3>| (ahead * pairs.clone()).sum_dim(2).reshape([n, k]);
    let classes = presence.clone().sum_dim(1);
    let centred = |ranks: Tensor<2>| (ranks.clone() - ranks.sum_dim(1) / classes.clone()) * presence.clone();
    let (theirs, ours) = (centred(rank(ahead)), centred(rank(sigmoid(before(ours)))));
    let dot = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum_dim(1);
    let spread = dot(&theirs, &theirs);
    let has_order = spread.clone().greater_elem(0.0).float();
    let scale = (spread * dot(&ours, &ours)).clamp_min(SMALLEST).sqrt();
    Some((-(dot(&theirs, &ours) / scale) + 1.0) * has_order)
}
