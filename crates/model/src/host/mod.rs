//! The operations of a decoder layer between its products, on a CPU. Each takes one pass over the values in this
//! process's memory and has its own backward pass. A composition of tensor operations would take a pass and a tensor
//! for every multiplication, and under autodiff would keep most of them until the backward pass.

/// Runs a block with the widest vector instructions of the processor, on the listed variables with their types.
macro_rules! in_vectors {
    (|$($name:ident: $type:ty),*| $body:block) => {{
        struct Run<'a> {
            $($name: $type),*
        }
        impl pulp::WithSimd for Run<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) {
                let Self { $($name),* } = self;
                $body
            }
        }
        pulp::Arch::new().dispatch(Run { $($name),* });
    }};
}

mod activations;
mod attention;
mod burn_ops;
mod gates;
mod norms;
#[cfg(test)]
mod tests;

/// Whether the operations support these tensors. The answer is the same for all tensors of a model.
pub(crate) use crate::memory::is_on_host as serves;
pub(crate) use activations::cap;
pub(crate) use burn_ops::Heads;

use crate::activation::{Activation, Gate};
use crate::rope::RotaryAngles;
use crate::sequences::Sequences;
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn_ops::Operations;
use std::sync::Arc;

/// Causal attention with rotary positions within each of the sequences. q: \[tokens, heads · head_dim\], k and v: \[tokens,
/// kv_heads · head_dim\], as the projections produce them; output as q. A sink is a logit of each head that takes part in
/// the softmax and has no value. `angles` are those of positions from 0 on.
pub(crate) fn attention(
    [q, k, v]: [Tensor<2>; 3],
    sinks: Option<Tensor<1>>,
    heads: Heads,
    sequences: Sequences,
    angles: Arc<RotaryAngles>,
) -> Tensor<2> {
    let sinks = sinks.unwrap_or_else(|| Tensor::full([heads.count], f32::NEG_INFINITY, &q.device()));
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(q, k, v, sinks.into_dispatch(), heads, sequences, angles))
}

/// [`Gate::apply`] in one pass.
pub(crate) fn gate(gate: Tensor<2>, up: Tensor<2>, formula: Gate) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::gate(gate.into_dispatch(), up.into_dispatch(), formula))
}

/// activation(x), elementwise.
pub(crate) fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), activation))
}

/// x / sqrt(mean(x²) + eps) · weight over the last dimension.
pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), weight.into_dispatch(), eps))
}

/// (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias over the last dimension.
pub(crate) fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<D> {
    let [weight, bias] = [weight, bias].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::layer_norm(x.into_dispatch(), weight, bias, eps))
}
