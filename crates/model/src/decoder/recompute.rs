//! Gradient checkpointing (1604.06174): only the input of each layer is kept for the backward pass, which computes the
//! rest of a layer again when it comes to it. One layer's graph is in memory at a time.

use super::Model;
use crate::Sequences;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};

impl Model {
    /// The final hidden states, and the inputs of each layer and of what follows the last, all outside any graph.
    pub(super) fn hidden_and_inputs(
        &self,
        tokens: Tensor<2, Int>,
        sequences: &Sequences,
    ) -> (Tensor<3>, Vec<Tensor<3>>) {
        let plain = self.valid();
        let mut x = plain.embedding.forward(tokens, sequences);
        let layout = plain.layout(&x, sequences);
        let mut inputs = Vec::with_capacity(plain.layers.len() + 1);
        for layer in &plain.layers {
            inputs.push(x.clone());
            x = layer.forward(x, &layout, None);
        }
        inputs.push(x.clone());
        (plain.head_input.forward(x), inputs)
    }

    /// The gradients of all parameters, from the inputs and d loss / d hidden, \[rows, width, hidden\].
    pub(super) fn gradients_by_layer(
        &self,
        tokens: Tensor<2, Int>,
        sequences: &Sequences,
        mut inputs: Vec<Tensor<3>>,
        of_hidden: Tensor<3>,
    ) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let mut slopes = of_hidden;
        if let Some(x) = inputs.pop() {
            let piece = &self.head_input;
            slopes = backward(piece, |x| piece.forward(x), x, slopes, &mut gradients);
        }
        if let Some(x) = inputs.last() {
            let layout = self.layout(x, sequences);
            for (layer, x) in self.layers.iter().zip(inputs).rev() {
                slopes = backward(layer, |x| layer.forward(x, &layout, None), x, slopes, &mut gradients);
            }
        }
        if self.embedding.is_trained() {
            let embedded = self.embedding.forward(tokens, sequences);
            let mut of_all = (embedded * slopes.autodiff()).sum().backward();
            take(GradientsParams::from_module(&mut of_all, &self.embedding), &self.embedding, &mut gradients);
        }
        gradients
    }
}

/// Computes a piece of the model again, adds the gradients of its parameters to `gradients`, and returns that of its
/// input. `slopes` is that of its output.
fn backward(
    piece: &impl Module,
    forward: impl FnOnce(Tensor<3>) -> Tensor<3>,
    input: Tensor<3>,
    slopes: Tensor<3>,
    gradients: &mut GradientsParams,
) -> Tensor<3> {
    let input = input.autodiff().require_grad();
    let mut of_all = (forward(input.clone()) * slopes.autodiff()).sum().backward();
    take(GradientsParams::from_module(&mut of_all, piece), piece, gradients);
    input.grad(&of_all).unwrap_or_else(|| unreachable!("the output of a piece depends on its input"))
}

/// Moves the gradients of a module's parameters.
fn take(from: GradientsParams, module: &impl Module, to: &mut GradientsParams) {
    struct Take<'a>(GradientsParams, &'a mut GradientsParams);
    impl ModuleVisitor for Take<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.1.register(param.id, gradient);
            }
        }
    }
    module.visit(&mut Take(from, to));
}

#[cfg(test)]
mod tests {
    use crate::families::tests::models;
    use crate::{CausalLm, Sequences};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Int, Tensor};

    /// The values of every parameter's gradient, in the order of the parameters.
    struct Values<'a>(&'a GradientsParams, Vec<Option<Vec<f32>>>);

    impl ModuleVisitor for Values<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(self.0.get::<D>(param.id).map(|gradient| gradient.try_into_vec_as().unwrap()));
        }
    }

    /// Equal but for a share of the largest; bit for bit if that is 0.
    fn assert_close(got: &[f32], wanted: &[f32], bound: f32, what: &str) {
        assert_eq!(got.len(), wanted.len(), "{what}");
        let largest = wanted.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (got, wanted) in got.iter().zip(wanted) {
            assert!((got - wanted).abs() <= bound * largest, "{what}: {got} is not {wanted}");
        }
    }

    #[test]
    fn gradients_by_layer_are_those_of_one_graph() {
        let device = Device::flex();
        let tokens = |device: &Device| Tensor::<1, Int>::from_data([3, 1, 4, 1, 5, 9, 2, 6], device).reshape([2, 4]);
        let sequences = Sequences::in_rows(2, 4);
        for model in models(&device.clone().autodiff()) {
            let size = model.head().weights().dims()[0];
            let slopes = (0..8 * size).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
            let slopes = Tensor::<1>::from_data(slopes.as_slice(), &device).reshape([2, 4, size]);
            let hidden = model.hidden(tokens(&model.device()), &sequences);
            let (again, inputs) = model.hidden_and_inputs(tokens(&device), &sequences);
            let family = model.config().model_type().name();
            // Experts and sinks are made of tensor operations, which can round differently in another graph.
            let bound = if ["gpt_oss", "granitemoe", "mixtral", "qwen3_moe"].contains(&family) { 1e-5 } else { 0.0 };
            let values = |x: Tensor<3>| -> Vec<f32> { x.into_data().iter().collect() };
            assert_close(&values(again), &values(hidden.clone()), bound, family);
            let whole = GradientsParams::from_grads((hidden * slopes.clone().autodiff()).sum().backward(), &model);
            let by_layer = model.gradients_by_layer(tokens(&model.device()), &sequences, inputs, slopes);
            let (mut wanted, mut got) = (Values(&whole, Vec::new()), Values(&by_layer, Vec::new()));
            model.visit(&mut wanted);
            model.visit(&mut got);
            assert_eq!(wanted.1.iter().flatten().count(), by_layer.len());
            assert_eq!(wanted.1.len(), got.1.len(), "{family}");
            for (wanted, got) in wanted.1.iter().zip(&got.1) {
                assert_eq!(wanted.is_some(), got.is_some(), "{family}");
                let (wanted, got) = (wanted.clone().unwrap_or_default(), got.clone().unwrap_or_default());
                assert_close(&got, &wanted, bound, family);
            }
        }
    }
}
