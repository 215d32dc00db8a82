//! How a student is compared with its targets.
//!
//! 1. [`config`] says what is wanted and refuses what makes no sense,
//! 2. [`teacher`] brings the cached rows to a temperature,
//! 3. [`student`] looks at the logits where a loss needs them,
//! 4. [`divergence`] compares the two, one file a divergence, and [`positions`] adds the labels,
//! 5. [`head`] does all that in pieces of bounded size beside the head's product, with a backward by hand.

pub mod config;
pub mod divergence;
pub mod head;
pub mod positions;
pub mod student;
pub mod teacher;

pub use config::{LossConfig, Reading, StepLoss};
pub use head::{LossSums, head_loss};
pub use positions::{Losses, losses};
pub use student::Student;
pub use teacher::Teacher;

use burn::tensor::Tensor;

/// log sum exp over the last dimension. x: \[n, classes\]; output: \[n, 1\].
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let max = x.clone().detach().max_dim(1);
    (x - max.clone()).exp().sum_dim(1).log() + max
}
