//! Copies of a model that compute in another number format than that of its parameters.

use super::Model;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

impl Model {
    /// See [`CausalLm::computing_in`](crate::CausalLm::computing_in).
    pub(super) fn computing_in(&self, dtype: DType) -> Self {
        let this = self.clone();
        let cast = &mut Cast(dtype);
        Self {
            embedding: this.embedding.computing_in(dtype, cast),
            layers: this.layers.map(cast),
            head_input: this.head_input.map(cast),
            lm_head: Module::map(this.lm_head, cast),
            ..this
        }
    }
}

/// Casts parameters to a number format. What was a leaf of a graph becomes a leaf of another.
struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_trained = param.is_require_grad();
        param.map(|values| values.set_require_grad(false).cast(self.0).set_require_grad(is_trained))
    }
}
