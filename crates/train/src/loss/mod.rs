//! Comparison of a student with its targets.
//!
//! 1. [`config`] holds the loss section of a recipe, and `check` rejects invalid combinations,
//! 2. [`step`] is the loss at one step, and at a chunk of its positions with their temperatures,
//! 3. [`device_targets`] holds the cached rows on the device, for any temperature,
//! 4. [`student`] extracts from the logits what a loss needs,
//! 5. [`compared`] pairs the two for a [`logitcask_core::Divergence`], and [`positions`] adds the labels,
//! 6. [`head`] does all that in chunks of bounded size together with the head's product, with a hand-written backward
//!    pass,
//! 7. `fused_cpu` does the same for sums over classes on a CPU, row by row in memory and without a graph,
//! 8. [`relations`] compares the samples of a batch with one another instead of their positions,
//! 9. [`collect_stats`] computes the statistics of teacher and student that temperature and weight rules request.

pub(crate) mod check;
mod check_source;
pub mod compared;
pub mod config;
pub mod device_targets;
mod fused_cpu;
pub mod head;
mod lanes;
pub(crate) mod logit_rows;
pub mod on_device;
pub mod positions;
pub mod relations;
pub mod stats;
pub mod step;
pub mod student;
pub mod temperature;

pub use config::{LossConfig, LossTerm, SecondTeacher};
pub use device_targets::DeviceTargets;
pub use head::{LossTotals, head_loss};
pub use on_device::OnDevice;
pub use positions::{TokenLosses, token_losses};
pub use relations::{RelationalLoss, Relations};
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
