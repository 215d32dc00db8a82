//! The head's products: with many classes they are the largest of a step, and their results the largest tensors.

use crate::matmul::{MatRef, matmul};
use crate::memory::{is_in_memory, numbers};
use burn::module::{Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// The parameter that is a model's head: logits = cap · tanh(hidden · weights / cap), or without a cap hidden ·
/// weights.
pub struct HeadParameter<'a> {
    /// Its weights.
    pub weights: HeadWeights<'a>,
    /// The bound that logits approach, if they have one.
    pub softcap: Option<f64>,
    /// Number format of the products, to which the weights are cast.
    pub dtype: DType,
}

/// The weights of a head.
pub enum HeadWeights<'a> {
    /// A separate matrix, \[hidden, vocabulary\].
    Own(&'a Param<Tensor<2>>),
    /// The embedding, \[vocabulary, hidden\].
    Tied(&'a Param<Tensor<2>>),
}

impl HeadParameter<'_> {
    /// The current weights, for forward passes and gradients outside any graph.
    pub fn detached(&self) -> Head {
        let head = match self.weights {
            HeadWeights::Own(head) => Head::new(self.cast(head), false),
            HeadWeights::Tied(embedding) => Head::new(self.cast(embedding), true),
        };
        head.bounded(self.softcap)
    }

    /// Whether the parameter is trained.
    pub fn is_trained(&self) -> bool {
        let (HeadWeights::Own(weights) | HeadWeights::Tied(weights)) = self.weights;
        weights.is_require_grad()
    }

    /// The id of the parameter, if it is nothing but the head.
    pub fn own_id(&self) -> Option<ParamId> {
        match self.weights {
            HeadWeights::Own(head) => Some(head.id),
            HeadWeights::Tied(_) => None,
        }
    }

    /// The weights, \[hidden, vocabulary\], in the model's graph.
    pub fn weights(&self) -> Tensor<2> {
        match self.weights {
            HeadWeights::Own(head) => self.cast(head),
            HeadWeights::Tied(embedding) => self.cast(embedding).swap_dims(0, 1),
        }
    }

    fn cast(&self, weights: &Param<Tensor<2>>) -> Tensor<2> {
        weights.val().cast(self.dtype)
    }

    /// Logits in the model's graph. hidden: \[n, hidden\]; output: \[n, vocabulary\].
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        capped(hidden.matmul(self.weights()), self.softcap)
    }

    /// Adds d loss / d head, \[vocabulary, hidden\] and outside any graph, to the parameter's gradient in `grads`.
    pub fn add_gradient(&self, grads: &mut GradientsParams, of_head: Tensor<2>) {
        let (id, of_head) = match self.weights {
            HeadWeights::Own(head) => (head.id, of_head.transpose()),
            HeadWeights::Tied(embedding) => (embedding.id, of_head),
        };
        let sum = match grads.remove::<2>(id) {
            Some(there) => there + of_head,
            None => of_head,
        };
        grads.register(id, sum);
    }

    pub(crate) fn device(&self) -> Device {
        let (HeadWeights::Own(weights) | HeadWeights::Tied(weights)) = self.weights;
        weights.val().device()
    }
}

/// cap · tanh(x / cap), or x without a cap.
fn capped(x: Tensor<2>, cap: Option<f64>) -> Tensor<2> {
    match cap {
        Some(cap) => (x / cap).tanh() * cap,
        None => x,
    }
}

/// A head outside any graph, from [`HeadParameter::detached`].
pub struct Head {
    weights: Weights,
    softcap: Option<f64>,
    is_frozen: bool,
}

enum Weights {
    /// On a CPU, in this process's memory. burn's CPU product clears and copies its result before it computes it, and
    /// copies it once more when it is read; with many classes that takes as long as a third of the product.
    Host(HostHead),
    /// On any device: \[hidden, vocabulary\].
    Device(Tensor<2>),
}

/// A head's weights in memory.
struct HostHead {
    weights: Vec<f32>,
    hidden_size: usize,
    vocab_size: usize,
    /// Strides from one class to the next, and from one hidden unit to the next.
    strides: (usize, usize),
}

impl Head {
    /// Creates it from weights in the order of classes, \[vocabulary, hidden\], or of hidden units, \[hidden,
    /// vocabulary\]. Its logits have no cap.
    pub fn new(weights: Tensor<2>, is_by_class: bool) -> Self {
        let weights = weights.detach().without_autodiff();
        if !is_in_memory(&weights) {
            let by_unit = if is_by_class { weights.transpose() } else { weights };
            return Self { weights: Weights::Device(by_unit), softcap: None, is_frozen: false };
        }
        let [rows, columns] = weights.dims();
        let (vocab_size, hidden_size) = if is_by_class { (rows, columns) } else { (columns, rows) };
        let strides = if is_by_class { (hidden_size, 1) } else { (1, vocab_size) };
        let host = HostHead { weights: numbers(weights), hidden_size, vocab_size, strides };
        Self { weights: Weights::Host(host), softcap: None, is_frozen: false }
    }

    /// The same head, whose logits approach this bound, if there is one.
    #[must_use]
    pub(crate) fn bounded(self, softcap: Option<f64>) -> Self {
        Self { softcap, ..self }
    }

    /// The same head, whose gradient [`Self::backward`] does not compute.
    #[must_use]
    pub fn frozen(self) -> Self {
        Self { is_frozen: true, ..self }
    }

    /// hidden: \[n, hidden\], outside any graph; output: \[n, vocabulary\].
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = match &self.weights {
            Weights::Device(head) => return capped(hidden.matmul(head.clone()), self.softcap),
            Weights::Host(head) => head,
        };
        let (device, n) = (hidden.device(), hidden.dims()[0]);
        let logits = head.logits(hidden, Vec::new(), self.softcap);
        Tensor::from_data(TensorData::new(logits, [n, head.vocab_size]), &device)
    }

    /// [`Self::logits`] in row-major order in the memory of `out`, whose contents are overwritten.
    ///
    /// # Errors
    /// The logits as a tensor, if the head is not in this process's memory.
    pub fn logits_into(&self, hidden: Tensor<2>, out: Vec<f32>) -> Result<Vec<f32>, Box<Tensor<2>>> {
        match &self.weights {
            Weights::Device(_) => Err(Box::new(self.logits(hidden))),
            Weights::Host(head) => Ok(head.logits(hidden, out, self.softcap)),
        }
    }

    /// The derivative of capped logits with respect to those before the cap, 1 - (logits / cap)²; `None` without a cap.
    pub fn cap_slopes(&self, logits: &Tensor<2>) -> Option<Tensor<2>> {
        self.softcap.map(|cap| -(logits.clone() / cap).square() + 1.0)
    }

    /// Returns d loss / d hidden, \[n, hidden\], from d loss / d logits before the cap, \[n, vocabulary\], and adds d loss
    /// / d head, \[vocabulary, hidden\], to `of_head`, unless the head is frozen. All tensors are outside any graph;
    /// d loss / d logits and d loss / d head are in f32, the others in the number format of the head.
    pub fn backward(&self, hidden: Tensor<2>, of_logits: Tensor<2>, of_head: &mut Option<Tensor<2>>) -> Tensor<2> {
        let head = match &self.weights {
            Weights::Host(head) => head,
            Weights::Device(head) => {
                let of_logits = of_logits.cast(head.dtype());
                if !self.is_frozen {
                    // Half precision would lose what is small beside the sum.
                    let one = of_logits.clone().transpose().matmul(hidden).cast(DType::F32);
                    *of_head = Some(match of_head.take() {
                        Some(sum) => sum + one,
                        None => one,
                    });
                }
                return of_logits.matmul(head.clone().transpose());
            }
        };
        let (device, n) = (hidden.device(), hidden.dims()[0]);
        let (d, vocab_size) = (head.hidden_size, head.vocab_size);
        let (hidden, of_logits) = (numbers(hidden), numbers(of_logits));
        let (hidden, of_logits) = (MatRef::by_rows(&hidden, d), MatRef::by_rows(&of_logits, vocab_size));
        if !self.is_frozen {
            let (sum, is_sum) = of_head.take().map_or((Vec::new(), false), |sum| (numbers(sum), true));
            let sum = matmul((vocab_size, d, n), of_logits.transposed(), hidden, sum, is_sum);
            *of_head = Some(Tensor::from_data(TensorData::new(sum, [vocab_size, d]), &device));
        }
        let weights = MatRef { values: &head.weights, strides: head.strides };
        let of_hidden = matmul((n, d, vocab_size), of_logits, weights, Vec::new(), false);
        Tensor::from_data(TensorData::new(of_hidden, [n, d]), &device)
    }
}

impl HostHead {
    /// Row-major in the memory of `out`.
    fn logits(&self, hidden: Tensor<2>, out: Vec<f32>, softcap: Option<f64>) -> Vec<f32> {
        let n = hidden.dims()[0];
        let (by_class, by_unit) = self.strides;
        let hidden = numbers(hidden);
        let hidden = MatRef::by_rows(&hidden, self.hidden_size);
        let weights = MatRef { values: &self.weights, strides: (by_unit, by_class) };
        let mut out = matmul((n, self.vocab_size, self.hidden_size), hidden, weights, out, false);
        if let Some(cap) = softcap {
            crate::host::cap(&mut out, cap as f32);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn products_in_memory_are_those_of_tensors() {
        let (n, d, vocab_size) = (5, 3, 7);
        let count =
            |start: usize, count: usize| (start..start + count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let (hidden, slopes) = (tensor(&count(0, n * d), [n, d]), tensor(&count(40, n * vocab_size), [n, vocab_size]));
        let by_class = tensor(&count(90, vocab_size * d), [vocab_size, d]);
        let by_unit = by_class.clone().transpose();
        let device = Head { weights: Weights::Device(by_unit.clone()), softcap: None, is_frozen: false };
        for head in [Head::new(by_class.clone(), true), Head::new(by_unit, false)] {
            assert!(matches!(head.weights, Weights::Host(_)));
            let close = |a: Tensor<2>, b: Tensor<2>| assert!((a - b).abs().max().into_scalar::<f32>() < 1e-5);
            close(head.logits(hidden.clone()), device.logits(hidden.clone()));
            let (mut here, mut there) = (None, None);
            for _ in 0..2 {
                let wanted = device.backward(hidden.clone(), slopes.clone(), &mut there);
                close(head.backward(hidden.clone(), slopes.clone(), &mut here), wanted);
            }
            close(here.unwrap(), there.unwrap());
        }
    }
}
