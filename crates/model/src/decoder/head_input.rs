//! The way from the residual stream to the head.

use super::linear::Linear;
use super::norm::Norm;
use super::shape::{NORM, PROJECT_OUT, Shape};
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::Module;
use burn::tensor::Tensor;

/// scale · project_out(norm(x)), without what a model lacks.
#[derive(Module, Debug)]
pub(super) struct HeadInput {
    norm: Option<Norm>,
    project_out: Option<Linear>,
    #[module(skip)]
    scale: f64,
    /// Whether a one follows, for the bias that is the last row of the head's weights.
    #[module(skip)]
    has_bias: bool,
}

impl HeadInput {
    /// That of a model.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, shape: &Shape) -> Result<Self, E> {
        let is_projected = shape.embedding.size != shape.hidden_size;
        Ok(Self {
            norm: shape.norm.map(|norm| Norm::build(parameters, NORM, norm)).transpose()?,
            project_out: is_projected.then(|| Linear::build(parameters, PROJECT_OUT, false)).transpose()?,
            scale: shape.head.scale,
            has_bias: shape.head.has_bias,
        })
    }

    /// x: \[rows, width, hidden\], the output of the last layer; output: \[rows, width, size of the head's input\].
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let x = self.after_norm(self.norm(x.reshape([rows * width, d])));
        let size = x.dims()[1];
        x.reshape([rows, width, size])
    }

    /// x: \[n, hidden\], the output of the last layer; output: project_out(norm(x)), \[n, width of the embedding\].
    pub(super) fn norm(&self, mut x: Tensor<2>) -> Tensor<2> {
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        match &self.project_out {
            Some(project) => project.forward(x),
            None => x,
        }
    }

    /// x: \[n, width of the embedding\], the output of [`norm`](Self::norm); output: \[n, size of the head's input\].
    pub(super) fn after_norm(&self, mut x: Tensor<2>) -> Tensor<2> {
        if self.scale != 1.0 {
            x = x * self.scale;
        }
        if self.has_bias {
            let one: Tensor<2> = Tensor::ones([x.dims()[0], 1], &x.device());
            x = Tensor::cat(vec![x.clone(), one.cast(x.dtype())], 1);
        }
        x
    }

    /// Its parameters with their names.
    pub(super) fn named(&self) -> Vec<(String, StoredParameter<'_>)> {
        let norm = self.norm.iter().flat_map(|norm| norm.named(NORM));
        norm.chain(self.project_out.iter().flat_map(|project| project.named(PROJECT_OUT))).collect()
    }
}
