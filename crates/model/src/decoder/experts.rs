//! Mixtures of experts.

use super::feed_forward::DenseFeedForward;
use super::linear::Linear;
use super::shape::{ExpertsShape, RouterWeights};
use crate::parameters::{ParameterBuilder, StoredParameter};
use burn::module::Module;
use burn::tensor::{DType, Int, Tensor, TensorData, activation};

/// Σ over the chosen experts e of weight_e · expert_e(x). A router chooses the experts of each token by their logits;
/// of equal ones those with the lower index.
#[derive(Module, Debug)]
pub(super) struct Experts {
    router: Linear,
    experts: Vec<DenseFeedForward>,
    #[module(skip)]
    per_token: usize,
    #[module(skip)]
    weights: RouterWeights,
}

/// Which experts the tokens of a batch go to.
struct Choice {
    /// The experts of each token, \[n · per_token\].
    of_tokens: Vec<i64>,
    /// Places in `of_tokens` in the order of the experts.
    order: Vec<i64>,
    /// Number of these places of each expert.
    counts: Vec<usize>,
}

impl Experts {
    /// The mixture named `name`. All projections of inputs come before those of outputs, since files store each kind
    /// together.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &ExpertsShape,
    ) -> Result<Self, E> {
        let router = Linear::build(parameters, &format!("{name}.router"), shape.has_router_bias)?;
        let name = |e| format!("{name}.experts.{e}");
        let inputs = (0..shape.count).map(|e| DenseFeedForward::build_inputs(parameters, &name(e), &shape.expert));
        let inputs: Vec<_> = inputs.collect::<Result<_, E>>()?;
        let experts = inputs.into_iter().enumerate();
        let experts = experts.map(|(e, inputs)| inputs.with_output(parameters, &name(e), &shape.expert));
        let experts = experts.collect::<Result<_, E>>()?;
        Ok(Self { router, experts, per_token: shape.per_token, weights: shape.weights })
    }

    /// x: \[n, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let ([n, d], device, dtype) = (x.dims(), x.device(), x.dtype());
        // In f32 whatever x is: a rounded logit could choose another expert.
        let logits = self.router.forward(x.clone()).cast(DType::F32);
        let choice = self.choose(&logits);
        let int = |values: Vec<i64>| {
            let count = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &device)
        };
        let weights = self.weights_of(logits, int(choice.of_tokens).reshape([n, self.per_token]));
        let tokens = choice.order.iter().map(|place| place / self.per_token as i64).collect();
        let inputs = x.select(0, int(tokens));
        let (mut outputs, mut start) = (Vec::new(), 0);
        for (expert, count) in self.experts.iter().zip(choice.counts).filter(|(_, count)| *count > 0) {
            outputs.push(expert.forward(inputs.clone().narrow(0, start, count)));
            start += count;
        }
        // Back into the order of the tokens.
        let mut places = vec![0; choice.order.len()];
        choice.order.iter().enumerate().for_each(|(at, place)| places[*place as usize] = at as i64);
        let outputs = Tensor::cat(outputs, 0).select(0, int(places)).reshape([n, self.per_token, d]);
        let weights = weights.cast(dtype).reshape([n, self.per_token, 1]);
        (outputs * weights).sum_dim(1).reshape([n, d])
    }

    /// Chooses experts by the logits, \[n, experts\].
    fn choose(&self, logits: &Tensor<2>) -> Choice {
        let count = self.experts.len();
        let logits: Vec<f32> = logits.clone().into_data().iter().collect();
        let mut of_tokens = Vec::with_capacity(logits.len() / count * self.per_token);
        let mut by_expert = vec![Vec::new(); count];
        let mut order: Vec<usize> = Vec::with_capacity(count);
        for logits in logits.chunks_exact(count) {
            order.clear();
            order.extend(0..count);
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            for &expert in &order[..self.per_token] {
                by_expert[expert].push(of_tokens.len() as i64);
                of_tokens.push(expert as i64);
            }
        }
        let counts = by_expert.iter().map(Vec::len).collect();
        Choice { of_tokens, order: by_expert.concat(), counts }
    }

    /// The weights of the chosen experts, \[n, per_token\].
    fn weights_of(&self, logits: Tensor<2>, chosen: Tensor<2, Int>) -> Tensor<2> {
        match self.weights {
            RouterWeights::SoftmaxOfChosen => activation::softmax(logits.gather(1, chosen), 1),
            RouterWeights::Softmax { is_normalised } => {
                let weights = activation::softmax(logits, 1).gather(1, chosen);
                match is_normalised {
                    true => weights.clone() / weights.sum_dim(1),
                    false => weights,
                }
            }
        }
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = self.router.named(&format!("{name}.router"));
        let expert = |e| format!("{name}.experts.{e}");
        all.extend(self.experts.iter().enumerate().flat_map(|(e, one)| one.named_inputs(&expert(e))));
        all.extend(self.experts.iter().enumerate().flat_map(|(e, one)| one.named_output(&expert(e))));
        all
    }
}
