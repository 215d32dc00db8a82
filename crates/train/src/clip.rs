//! Gradient clipping by one norm over all tensors; burn's own clipping uses each tensor's norm separately.

use crate::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

/// Scales all gradients so that their global norm is at most `limit`; returns the norm before scaling.
pub(crate) fn clip_global_norm<M: Module>(module: &M, grads: &mut GradientsParams, limit: f64) -> Result<f64> {
    let mut squares = Squares { grads, sums: Vec::new() };
    module.visit(&mut squares);
    let sums = squares.sums;
    if sums.is_empty() {
        return Ok(0.0);
    }
    let sums = Tensor::cat(sums, 0).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    let norm = sums.iter().map(|&s| f64::from(s)).sum::<f64>().sqrt();
    if norm > limit {
        module.visit(&mut Scale { grads, factor: limit / norm });
    }
    Ok(norm)
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.cast(DType::F32).square().sum());
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad * self.factor);
        }
    }
}
