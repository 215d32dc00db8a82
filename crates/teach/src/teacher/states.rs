//! A teacher whose layers ran elsewhere, and left its last hidden states.

use super::head_product::HeadProduct;
use super::{Outputs, Teacher};
use crate::Result;
use crate::hidden_states::HiddenStates;
use burn::tensor::{Device, Tensor, TensorData};
use logitcask_data::batches::TokenBatch;
use logitcask_model::{FinalLayers, NormSide};
use std::ops::Range;

/// Bytes of logits that are computed at once.
const LOGITS_BYTES: usize = 64 << 20;

/// A teacher that reads its last hidden states from files and computes the rest. Its batches consist of samples of
/// these files, which it finds by their origin, whatever their ids are.
pub struct StatesTeacher<'a> {
    states: &'a HiddenStates,
    layers: &'a FinalLayers,
    side: NormSide,
    product: HeadProduct,
}

impl<'a> StatesTeacher<'a> {
    /// The teacher with these final layers, which are on `device`, and states from this side of the norm.
    pub fn new(states: &'a HiddenStates, layers: &'a FinalLayers, side: NormSide, device: Device) -> Self {
        Self { states, layers, side, product: HeadProduct::on(device) }
    }

    /// The states at some positions of a batch, row-major.
    fn states(&self, batch: &TokenBatch, positions: Range<usize>) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(positions.len() * self.states.width());
        let mut rest = positions;
        while !rest.is_empty() {
            // Consecutive positions of a sample are read at once.
            let (sample, first) = batch.positions[rest.start];
            let follows = |&(i, index): &(usize, usize)| batch.positions[index] == (sample, first + i);
            let count = rest.clone().enumerate().take_while(follows).count();
            let document = batch.samples[sample].origin.document;
            all.extend(self.states.vectors(document, first..first + count)?);
            rest.start += count;
        }
        Ok(all)
    }
}

impl Teacher for StatesTeacher<'_> {
    fn vocab_size(&self) -> usize {
        self.layers.vocab_size()
    }

    fn workers(&self) -> usize {
        self.product.workers()
    }

    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()> {
        let at_once = (LOGITS_BYTES / (4 * self.vocab_size())).max(1);
        for start in (0..batch.positions.len()).step_by(at_once) {
            let positions = start..batch.positions.len().min(start + at_once);
            let shape = [positions.len(), self.states.width()];
            let states = TensorData::new(self.states(batch, positions.clone())?, shape);
            let states = Tensor::<2>::from_data(states, self.product.device());
            let logits = self.product.logits(self.layers.head(), self.layers.head_input(states, self.side))?;
            each(Outputs { positions, logits, extras: Vec::new() })?;
        }
        Ok(())
    }
}
