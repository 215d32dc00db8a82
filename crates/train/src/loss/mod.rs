//! How a student is compared with its targets.
//!
//! 1. [`config`] says what is wanted and `check` refuses what makes no sense,
//! 2. [`step`] is the loss at one step, and at a piece of its positions with their temperatures,
//! 3. [`device_targets`] has the cached rows on the device, for any temperature,
//! 4. [`student`] looks at the logits where a loss needs them,
//! 5. [`divergence`] compares the two, one file a divergence, and [`positions`] adds the labels,
//! 6. [`head`] does all that in pieces of bounded size beside the head's product, with a backward by hand,
//! 7. `fused_cpu` does the same for sums over classes on a CPU, row by row in memory and without a graph,
//! 8. [`collect_stats`] tells rules about temperatures and weights what teacher and student say.

pub(crate) mod check;
pub mod config;
pub mod device_targets;
pub mod divergence;
mod fused_cpu;
pub mod head;
mod lanes;
pub mod positions;
mod rows;
pub mod stats;
pub mod step;
pub mod student;
pub mod temperature;

pub use config::{LossConfig, LossTerm, SecondTeacher};
pub use device_targets::DeviceTargets;
pub use head::{LossTotals, head_loss};
pub use positions::{TokenLosses, token_losses};
pub use stats::collect_stats;
pub use step::{ChunkLoss, ChunkTerm, LossAtStep, Scale, TermAtStep};
pub use student::Student;
pub use temperature::Temperature;

use burn::tensor::Tensor;

/// log sum exp over the last dimension. x: \[n, classes\]; output: \[n, 1\].
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let max = x.clone().detach().max_dim(1);
    (x - max.clone()).exp().sum_dim(1).log() + max
}
