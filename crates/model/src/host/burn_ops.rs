//! Registration of our own operations with burn, with and without autodiff.

use super::{activations, attention, gates, norms};
use crate::activation::{Activation, Gate};
use crate::rope::RotaryAngles;
use crate::sequences::Sequences;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;
use std::sync::Arc;

/// The shape of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of query heads.
    pub(crate) count: usize,
    /// Number of key and value heads, each shared by a group of query heads.
    pub(crate) kv_count: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Number of keys that a query sees, itself among them; `None` if it sees all before it.
    pub(crate) window: Option<usize>,
    /// The factor of the scores.
    pub(crate) scale: f32,
    /// The bound that scores approach: a score s becomes cap · tanh(s / cap).
    pub(crate) softcap: Option<f32>,
}

impl Heads {
    /// Number of values of a token's queries, and of its keys or values.
    pub(crate) fn token_sizes(&self) -> [usize; 2] {
        [self.count, self.kv_count].map(|count| count * self.head_dim)
    }
}

/// The operations, on tensors of f32.
#[backend_extension(Flex, Autodiff)]
pub trait Operations: Backend {
    /// [`super::attention()`].
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        sinks: FloatTensor<Self>,
        heads: Heads,
        sequences: Sequences,
        angles: Arc<RotaryAngles>,
    ) -> FloatTensor<Self>;
    /// [`super::gate()`].
    fn gate(gate: FloatTensor<Self>, up: FloatTensor<Self>, formula: Gate) -> FloatTensor<Self>;
    /// [`super::activate()`].
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// [`super::rms_norm()`].
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;
    /// [`super::layer_norm()`].
    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

impl Operations for Flex {
    fn attend(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        sinks: FlexTensor,
        heads: Heads,
        sequences: Sequences,
        angles: Arc<RotaryAngles>,
    ) -> FlexTensor {
        let all = [q, k, v, sinks].map(|x| x.to_contiguous());
        tensor(attention::forward(attention_inputs(&all), &heads, &sequences, &angles), &all[0])
    }

    fn gate(gate: FlexTensor, up: FlexTensor, formula: Gate) -> FlexTensor {
        let [gate, up] = [gate, up].map(|x| x.to_contiguous());
        tensor(gates::gate(numbers(&gate), numbers(&up), formula), &gate)
    }

    fn activate(x: FlexTensor, activation: Activation) -> FlexTensor {
        let x = x.to_contiguous();
        tensor(activations::activate(numbers(&x), activation), &x)
    }

    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        let [x, weight] = [x, weight].map(|x| x.to_contiguous());
        tensor(norms::rms_norm(numbers(&x), numbers(&weight), eps), &x)
    }

    fn layer_norm(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, eps: f64) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|x| x.to_contiguous());
        tensor(norms::layer_norm(numbers(&x), numbers(&weight), numbers(&bias), eps), &x)
    }
}

/// The values of a contiguous tensor.
fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice().unwrap_or_else(|| unreachable!("a contiguous tensor of f32"))
}

/// The values of contiguous queries, keys, values and sinks.
fn attention_inputs([q, k, v, sinks]: &[FlexTensor; 4]) -> attention::Inputs<'_> {
    attention::Inputs { q: numbers(q), k: numbers(k), v: numbers(v), sinks: numbers(sinks) }
}

/// A tensor of these values with the shape of another.
fn tensor(numbers: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, like.layout().shape().clone()))
}

impl<C: CheckpointStrategy> Operations for Autodiff<Flex, C> {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        sinks: FloatTensor<Self>,
        heads: Heads,
        sequences: Sequences,
        angles: Arc<RotaryAngles>,
    ) -> FloatTensor<Self> {
        let (inputs, nodes) = parts([q, k, v, sinks]);
        let [q, k, v, sinks] = inputs.clone();
        let out = Flex::attend(q, k, v, sinks, heads, sequences.clone(), angles.clone());
        match Attend.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, heads, sequences, angles), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn gate(gate: FloatTensor<Self>, up: FloatTensor<Self>, formula: Gate) -> FloatTensor<Self> {
        let (inputs, nodes) = parts([gate, up]);
        let [gate, up] = inputs.clone();
        let out = Flex::gate(gate, up, formula);
        match Gated.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, formula), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let ([x], nodes) = parts([x]);
        let out = Flex::activate(x.clone(), activation);
        match Activate.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, activation), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let (inputs, nodes) = parts([x, weight]);
        let [x, weight] = inputs.clone();
        let out = Flex::rms_norm(x, weight, eps);
        match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, eps), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (inputs, nodes) = parts([x, weight, bias]);
        let [x, weight, bias] = inputs.clone();
        let out = Flex::layer_norm(x, weight, bias, eps);
        match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, eps), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// The inputs, made contiguous, and their nodes in the graph.
fn parts<const N: usize>(inputs: [FloatTensor<Autodiff<Flex>>; N]) -> ([FlexTensor; N], [NodeGuard; N]) {
    let nodes = inputs.each_ref().map(|input| input.node());
    (inputs.map(|input| input.into_primitive().to_contiguous()), nodes)
}

/// Passes the gradients to the nodes that need them, each in the shape of its input.
fn register<const N: usize>(
    nodes: [Option<NodeId>; N],
    inputs: [&FlexTensor; N],
    gradients: [Vec<f32>; N],
    grads: &mut Gradients,
) {
    for ((node, input), gradient) in nodes.into_iter().zip(inputs).zip(gradients) {
        if let Some(node) = node {
            grads.register::<Flex>(node, tensor(gradient, input));
        }
    }
}

/// The backward pass of [`Operations::attend`].
#[derive(Debug)]
struct Attend;

impl Backward<Flex, 4> for Attend {
    type State = ([FlexTensor; 4], Heads, Sequences, Arc<RotaryAngles>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (inputs, heads, sequences, angles) = &ops.state;
        let of = attention::backward(attention_inputs(inputs), numbers(&slopes), heads, sequences, angles);
        register(ops.parents.map(|node| Some(node?.id)), inputs.each_ref(), of, grads);
    }
}

/// The backward pass of [`Operations::gate`].
#[derive(Debug)]
struct Gated;

impl Backward<Flex, 2> for Gated {
    type State = ([FlexTensor; 2], Gate);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([gate, up], formula) = &ops.state;
        let of = gates::gate_backward(numbers(gate), numbers(up), *formula, numbers(&slopes));
        register(ops.parents.map(|node| Some(node?.id)), [gate, up], of, grads);
    }
}

/// The backward pass of [`Operations::activate`].
#[derive(Debug)]
struct Activate;

impl Backward<Flex, 1> for Activate {
    type State = (FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, activation) = &ops.state;
        let of = activations::activate_backward(numbers(x), *activation, numbers(&slopes));
        register(ops.parents.map(|node| Some(node?.id)), [x], [of], grads);
    }
}

/// The backward pass of [`Operations::rms_norm`].
#[derive(Debug)]
struct RmsNorm;

impl Backward<Flex, 2> for RmsNorm {
    type State = ([FlexTensor; 2], f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([x, weight], eps) = &ops.state;
        let of = norms::rms_norm_backward(numbers(x), numbers(weight), *eps, numbers(&slopes));
        register(ops.parents.map(|node| Some(node?.id)), [x, weight], of, grads);
    }
}

/// The backward pass of [`Operations::layer_norm`].
#[derive(Debug)]
struct LayerNorm;

impl Backward<Flex, 3> for LayerNorm {
    type State = ([FlexTensor; 3], f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([x, weight, bias], eps) = &ops.state;
        let of = norms::layer_norm_backward(numbers(x), numbers(weight), *eps, numbers(&slopes));
        register(ops.parents.map(|node| Some(node?.id)), [x, weight, bias], of, grads);
    }
}
