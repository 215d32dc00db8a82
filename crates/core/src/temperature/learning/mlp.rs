//! A perceptron with one hidden layer and one output, small enough for the CPU.

use crate::rng::CounterRng;

/// w · tanh(W x + b) + c. Its parameters are in one list: W row by row, b, w, c.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::temperature) struct Mlp {
    inputs: usize,
    hidden: usize,
    /// hidden (inputs + 2) + 1 values.
    pub(in crate::temperature) parameters: Vec<f64>,
}

impl Mlp {
    /// W is drawn with variance 1 / inputs, w is 0 and c is `bias`, so that the initial output is constant.
    pub(in crate::temperature) fn new(inputs: usize, hidden: usize, bias: f64, rng: &mut CounterRng) -> Self {
        let scale = (inputs as f64).sqrt().recip();
        let mut parameters: Vec<f64> = (0..hidden * inputs).map(|_| scale * rng.normal()).collect();
        parameters.resize(hidden * (inputs + 2), 0.0);
        parameters.push(bias);
        Self { inputs, hidden, parameters }
    }

    /// Returns the output and the hidden layer.
    pub(in crate::temperature) fn forward(&self, input: &[f64]) -> (f64, Vec<f64>) {
        let (matrix, rest) = self.parameters.split_at(self.hidden * self.inputs);
        let (biases, rest) = rest.split_at(self.hidden);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let unit = |(row, bias): (&[f64], &f64)| (dot(row, input) + bias).tanh();
        let hidden: Vec<f64> = matrix.chunks_exact(self.inputs).zip(biases).map(unit).collect();
        (dot(&rest[..self.hidden], &hidden) + rest[self.hidden], hidden)
    }

    /// Adds `slope` · d output / d parameters to `gradient`.
    pub(in crate::temperature) fn backward(&self, input: &[f64], hidden: &[f64], slope: f64, gradient: &mut [f64]) {
        let weights = &self.parameters[self.hidden * (self.inputs + 1)..];
        let (matrix, rest) = gradient.split_at_mut(self.hidden * self.inputs);
        let (biases, rest) = rest.split_at_mut(self.hidden);
        for (i, row) in matrix.chunks_exact_mut(self.inputs).enumerate() {
            let inner = slope * weights[i] * (1.0 - hidden[i] * hidden[i]);
            row.iter_mut().zip(input).for_each(|(g, x)| *g += inner * x);
            biases[i] += inner;
            rest[i] += slope * hidden[i];
        }
        rest[self.hidden] += slope;
    }
}

/// Adam with the usual decay rates; its moments are stored in one list.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::temperature) struct Adam {
    /// Number of steps, then the means and the squares of the gradient.
    pub(in crate::temperature) state: Vec<f64>,
}

impl Adam {
    pub(in crate::temperature) fn new(parameters: usize) -> Self {
        Self { state: vec![0.0; 1 + 2 * parameters] }
    }

    /// Gradient ascent: parameters += rate · direction of `gradient`.
    pub(in crate::temperature) fn ascend(&mut self, parameters: &mut [f64], gradient: &[f64], rate: f64) {
        const DECAY: (f64, f64) = (0.9, 0.999);
        let (steps, moments) = self.state.split_at_mut(1);
        steps[0] += 1.0;
        let (means, squares) = moments.split_at_mut(gradient.len());
        for (((p, g), mean), square) in parameters.iter_mut().zip(gradient).zip(means).zip(squares) {
            *mean = DECAY.0 * *mean + (1.0 - DECAY.0) * g;
            *square = DECAY.1 * *square + (1.0 - DECAY.1) * g * g;
            let mean = *mean / (1.0 - DECAY.0.powf(steps[0]));
            let square = *square / (1.0 - DECAY.1.powf(steps[0]));
            *p += rate * mean / (square.sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences() {
        let mut rng = CounterRng::new("mlp test", &[]);
        let mut mlp = Mlp::new(3, 4, 0.5, &mut rng);
        assert_eq!(mlp.forward(&[1.0, -2.0, 3.0]).0, 0.5, "a constant at first");
        mlp.parameters.iter_mut().for_each(|p| *p += 0.3 * rng.normal());
        let input = [0.4, -1.1, 0.7];
        let (_, hidden) = mlp.forward(&input);
        let mut gradient = vec![0.0; mlp.parameters.len()];
        mlp.backward(&input, &hidden, 2.0, &mut gradient);
        for (i, exact) in gradient.iter().enumerate() {
            let at = |by: f64| {
                let mut moved = mlp.clone();
                moved.parameters[i] += by;
                2.0 * moved.forward(&input).0
            };
            let found = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((exact - found).abs() < 1e-8, "parameter {i}: {exact}, found {found}");
        }
    }

    #[test]
    fn adam_climbs() {
        let (mut at, mut adam) = (vec![0.0], Adam::new(1));
        for _ in 0..2000 {
            let slope = vec![-2.0 * (at[0] - 3.0)];
            adam.ascend(&mut at, &slope, 0.01);
        }
        assert!((at[0] - 3.0).abs() < 1e-2, "{at:?}");
    }
}
