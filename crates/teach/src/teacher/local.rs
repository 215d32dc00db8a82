//! A teacher whose model runs in this process.

use super::head_product::HeadProduct;
use super::{Outputs, Teacher, host, projection};
use crate::Result;
use burn::tensor::{DType, Int, Tensor, TensorData};
use logitcask_core::{ExtraColumn, ExtraSource, Projection};
use logitcask_data::batches::TokenBatch;
use logitcask_model::{CausalLm, Head, Model, Sequences};

/// Version of the conversion from tokens to logits. It is incremented by hand whenever the same batch would give other
/// bits.
pub const FORWARD_VERSION: u32 = 2;

/// A teacher whose model runs in this process.
pub struct LocalTeacher<M = Model> {
    model: M,
    head: Head,
    product: HeadProduct,
    extras: Vec<ExtraColumn>,
    /// The matrix of each column's projection, \[hidden size, size\], if it has one.
    projections: Vec<Option<Tensor<2>>>,
}

impl<M: CausalLm> LocalTeacher<M> {
    /// A teacher that runs a loaded model.
    pub fn new(model: M) -> Self {
        let product = HeadProduct::on(model.device());
        Self { head: model.head().detached(), model, product, extras: Vec::new(), projections: Vec::new() }
    }

    /// The same teacher, which also computes these columns.
    #[must_use]
    pub fn with_extras(mut self, extras: Vec<ExtraColumn>) -> Self {
        let hidden_size = self.model.head().weights().dims()[0];
        let matrix = |extra: &ExtraColumn| {
            let ExtraSource::Hidden { project, .. } = extra.from;
            project.map(|Projection::Random { size, seed }| {
                let numbers = projection::random(hidden_size, size as usize, seed);
                Tensor::from_data(TensorData::new(numbers, [hidden_size, size as usize]), self.product.device())
            })
        };
        self.projections = extras.iter().map(matrix).collect();
        self.extras = extras;
        self
    }

    /// The vectors of each column at some positions. hidden: \[positions, hidden size\].
    fn vectors(&self, hidden: &Tensor<2>) -> Result<Vec<Vec<f32>>> {
        let column = |projection: &Option<Tensor<2>>| match projection {
            // In f32, whatever the teacher computes in: the matrix is.
            Some(matrix) => host(hidden.clone().cast(DType::F32).matmul(matrix.clone())),
            None => host(hidden.clone()),
        };
        self.projections.iter().map(column).collect()
    }
}

impl<M: CausalLm> Teacher for LocalTeacher<M> {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn extras(&self) -> &[ExtraColumn] {
        &self.extras
    }

    fn workers(&self) -> usize {
        self.product.workers()
    }

    fn outputs(&self, batch: &TokenBatch, each: &mut dyn FnMut(Outputs) -> Result<()>) -> Result<()> {
        let texts = || batch.samples.iter().map(|sample| &sample.input_ids[..]);
        let sequences = Sequences::packed(texts().map(<[u32]>::len), self.model.packing());
        let (tokens, starts) = (sequences.token_tensor(texts(), self.product.device()), sequences.starts());
        let flat = |&(sample, position): &(usize, usize)| (starts[sample] + position) as i64;
        let wanted: Vec<i64> = batch.positions.iter().map(flat).collect();
        let count = wanted.len();
        let wanted = Tensor::<1, Int>::from_data(TensorData::new(wanted, [count]), self.product.device());
        let hidden = self.model.hidden_at(tokens, &sequences, wanted);
        let mut start = 0;
        for part in hidden.split(self.model.logits_chunk(), 0) {
            let positions = start..start + part.dims()[0];
            let extras = self.vectors(&part)?;
            start = positions.end;
            let logits = self.product.logits(&self.head, part)?;
            each(Outputs { positions, logits, extras })?;
        }
        Ok(())
    }
}
