//! A layer of a decoder.

use super::attention::{Layout, Past};
use super::feed_forward::FeedForward;
use super::mixer::Mixer;
use super::mixer_shape::AttentionShape;
use super::norm::Norm;
use super::shape::{FEED_FORWARD, LayerShape, NORMS, Order, SCALAR, in_layer};
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Attention, or what mixes tokens in its place, and a feed-forward network, added to the residual stream as [`Order`] says.
#[derive(Module, Debug)]
pub(super) struct Layer {
    attention_input_norm: Option<Norm>,
    mixer: Mixer,
    attention_output_norm: Option<Norm>,
    feed_forward_input_norm: Option<Norm>,
    feed_forward: FeedForward,
    feed_forward_output_norm: Option<Norm>,
    scalar: Option<Param<Tensor<1>>>,
    #[module(skip)]
    order: Order,
    #[module(skip)]
    residual: f64,
}

impl Layer {
    /// The layer with this index.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        index: usize,
        shape: &LayerShape,
    ) -> Result<Self, E> {
        fn norm<E>(
            parameters: &mut ParameterBuilder<'_, E>,
            index: usize,
            shape: &LayerShape,
            place: usize,
        ) -> Result<Option<Norm>, E> {
            let name = in_layer(index, NORMS[place]);
            shape.norms[place].then(|| Norm::build(parameters, &name, shape.norm)).transpose()
        }
        Ok(Self {
            attention_input_norm: norm(parameters, index, shape, 0)?,
            mixer: Mixer::build(parameters, index, &shape.mixer)?,
            attention_output_norm: norm(parameters, index, shape, 1)?,
            feed_forward_input_norm: norm(parameters, index, shape, 2)?,
            feed_forward: FeedForward::build(parameters, &in_layer(index, FEED_FORWARD), &shape.feed_forward)?,
            feed_forward_output_norm: norm(parameters, index, shape, 3)?,
            scalar: shape.has_scalar.then(|| parameters.vector(&in_layer(index, SCALAR))).transpose()?,
            order: shape.order,
            residual: shape.residual,
        })
    }

    /// The shape of its attention, if it has one.
    pub(super) fn attention(&self) -> Option<&AttentionShape> {
        self.mixer.attention()
    }

    /// x: \[rows, width, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<3>, layout: &Layout, past: Option<Past<'_>>) -> Tensor<3> {
        let [rows, width, d] = x.dims();
        let x = x.reshape([rows * width, d]);
        let attention = |x: Tensor<2>| self.mixer.forward(x, layout, past);
        let x = match self.order {
            Order::Sequential => {
                let branch = attention(normed(x.clone(), &self.attention_input_norm));
                let x = x + self.scaled(normed(branch, &self.attention_output_norm));
                let branch = self.feed_forward.forward(normed(x.clone(), &self.feed_forward_input_norm));
                x + self.scaled(normed(branch, &self.feed_forward_output_norm))
            }
            Order::Parallel => {
                let of_attention = normed(x.clone(), &self.attention_input_norm);
                let of_feed_forward = match &self.feed_forward_input_norm {
                    Some(norm) => norm.forward(x.clone()),
                    None => of_attention.clone(),
                };
                x + self.scaled(attention(of_attention)) + self.scaled(self.feed_forward.forward(of_feed_forward))
            }
            Order::NormAfterSum => {
                let x = normed(x.clone() + self.scaled(attention(x)), &self.attention_output_norm);
                normed(x.clone() + self.scaled(self.feed_forward.forward(x)), &self.feed_forward_output_norm)
            }
        };
        let x = match &self.scalar {
            Some(scalar) => x * scalar.val().unsqueeze(),
            None => x,
        };
        x.reshape([rows, width, d])
    }

    /// What is added to the residual stream.
    fn scaled(&self, branch: Tensor<2>) -> Tensor<2> {
        if self.residual == 1.0 { branch } else { branch * self.residual }
    }

    /// The parameters of the layer with this index, with their names.
    pub(super) fn named(&self, index: usize) -> Vec<(String, StoredParameter<'_>)> {
        let norms = [
            &self.attention_input_norm,
            &self.attention_output_norm,
            &self.feed_forward_input_norm,
            &self.feed_forward_output_norm,
        ];
        let norm = |place: usize| norms[place].iter().flat_map(move |norm| norm.named(&in_layer(index, NORMS[place])));
        let mut all: Vec<_> = norm(0).collect();
        all.extend(self.mixer.named(index));
        all.extend(norm(1).chain(norm(2)));
        all.extend(self.feed_forward.named(&in_layer(index, FEED_FORWARD)));
        all.extend(norm(3));
        all.extend(self.scalar.iter().map(|scalar| (in_layer(index, SCALAR), StoredParameter::Vector(scalar))));
        all
    }
}

/// Normalised, if there is such a norm.
fn normed(x: Tensor<2>, norm: &Option<Norm>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
