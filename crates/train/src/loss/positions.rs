//! The loss at each position, from the teacher's row and the student's.

use crate::loss::compared::divergence_rows;
use crate::loss::{ChunkLoss, DeviceTargets, Scale, Student};
use burn::tensor::Tensor;

/// The parts of the loss, \[n, 1\] each.
pub struct TokenLosses {
    /// The divergence of each term, without factor, scale and weights.
    pub divergences: Vec<Tensor<2>>,
    /// Cross entropy on the labels, if it is requested.
    pub cross_entropy: Option<Tensor<2>>,
}

/// Computes the parts of `loss` at n positions.
pub fn token_losses(student: &Student, teacher: Option<&DeviceTargets>, loss: &ChunkLoss) -> TokenLosses {
    let divergences = |teacher| loss.terms.iter().map(|term| divergence_rows(student, teacher, term)).collect();
    TokenLosses {
        divergences: teacher.map_or_else(Vec::new, divergences),
        cross_entropy: loss.label_view.map(|view| student.cross_entropy(view)),
    }
}

/// alpha · weight · Σ factor · scale · divergence + (1 - alpha) · cross entropy, summed over the positions.
pub fn total(losses: &TokenLosses, loss: &ChunkLoss, student: &Student) -> Tensor<1> {
    let soft = loss.terms.iter().zip(&losses.divergences).map(|(term, divergence)| {
        let scaled = match term.step.scale {
            Scale::Squared => term.teacher.multiply(term.teacher.multiply(divergence.clone())),
            Scale::Product => student.views[term.view].0.multiply(term.teacher.multiply(divergence.clone())),
            Scale::None => divergence.clone(),
        };
        let weighted = match &loss.weights {
            None => scaled,
            Some(weights) => scaled * weights.clone(),
        };
        weighted.sum() * (loss.alpha * term.step.factor)
    });
    let labels = losses.cross_entropy.as_ref().filter(|_| loss.alpha < 1.0);
    let labels = labels.map(|cross_entropy| cross_entropy.clone().sum() * (1.0 - loss.alpha));
    let sum = soft.chain(labels).reduce(|a, b| a + b);
    sum.unwrap_or_else(|| unreachable!("alpha > 0 without targets was refused when the batch was made"))
}
