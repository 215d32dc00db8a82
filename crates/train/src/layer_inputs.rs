//! The backward pass of a step that computes layers a second time, instead of keeping them.

use crate::batch::Batch;
use crate::loss::LossTotals;
use crate::tensors::int_tensor;
use crate::update::with_head;
use crate::{Error, Result};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use logitcask_model::CausalLm;

/// What is kept of a forward pass.
pub(crate) struct LayerInputs {
    inputs: Vec<Tensor<3>>,
    /// The final hidden states, \[rows · width, hidden\], which start a graph of the loss alone.
    hidden: Tensor<2>,
}

impl LayerInputs {
    /// The forward pass of a batch: hidden states at its positions, \[positions, hidden\], and what is kept.
    pub(crate) fn of(model: &impl CausalLm, batch: &Batch) -> (Tensor<2>, Self) {
        let (device, shape) = (model.device(), batch.sequences.shape());
        let tokens = int_tensor(&batch.tokens, shape, &device.clone().without_autodiff());
        let (hidden, inputs) = model.hidden_and_inputs(tokens, &batch.sequences);
        let [rows, width, size] = hidden.dims();
        let hidden = hidden.reshape([rows * width, size]).autodiff().require_grad();
        let positions = int_tensor(&batch.positions, [batch.positions.len()], &device);
        (hidden.clone().select(0, positions), Self { inputs, hidden })
    }

    /// Takes the gradients out of `sums` and returns them for the mean over `positions` positions.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] for a batch without a position.
    pub(crate) fn gradients(
        self,
        model: &impl CausalLm,
        sums: &mut LossTotals,
        batch: &Batch,
        positions: usize,
    ) -> Result<GradientsParams> {
        let (n, [rows, width]) = (positions as f64, batch.sequences.shape());
        let surrogate = sums.surrogate.take().ok_or(Error::EmptyBatch)?;
        let of_hidden = self.hidden.grad(&(surrogate / n).backward()).ok_or(Error::EmptyBatch)?;
        let of_hidden = of_hidden.reshape([rows, width, self.hidden.dims()[1]]);
        let tokens = int_tensor(&batch.tokens, [rows, width], &model.device());
        let grads = model.gradients_by_layer(tokens, &batch.sequences, self.inputs, of_hidden);
        Ok(with_head(model, grads, sums, positions))
    }
}
