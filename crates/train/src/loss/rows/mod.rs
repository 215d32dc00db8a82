//! Rows of logits as a loss sees them: a few numbers out, a few slopes back in.
//!
//! A loss looks at the kept classes, at the label, and at log sum exp of all others at some temperatures. The gradient of
//! the logits is softmax of the others times the slope of their log sum exp, and the slopes of the kept classes where they
//! stand. [`Tensors`] does this with tensor operations, on any device; [`Host`] in two passes over memory, on a CPU.

mod host;
mod tensors;

pub(super) use host::Host;
pub(super) use tensors::Tensors;

use burn::tensor::Tensor;

/// One row's numbers, each \[n, 1\] but for the kept classes.
pub(super) trait Rows {
    /// Logits of the kept classes, \[n, width\]; `None` without a teacher.
    fn kept(&self) -> Option<Tensor<2>>;

    /// Logit of the label.
    fn gold(&self) -> Tensor<2>;

    /// log sum exp(logit / T) over the classes that are not kept, for each of the temperatures asked for.
    fn log_sums(&self) -> Vec<Tensor<2>>;

    /// d log_sum / d T = -E\[logit\] / T² of one of them.
    fn along(&self, view: usize) -> Tensor<2>;

    /// d loss / d logits, \[n, vocabulary\].
    fn gradient(self: Box<Self>, slopes: Slopes) -> Tensor<2>;
}

/// Slopes of the loss along the numbers of [`Rows`]; `None`: it does not depend on them.
pub(super) struct Slopes {
    /// \[n, width\].
    pub(super) kept: Option<Tensor<2>>,
    /// \[n, 1\].
    pub(super) gold: Option<Tensor<2>>,
    /// \[n, 1\] each.
    pub(super) log_sums: Vec<Option<Tensor<2>>>,
}
