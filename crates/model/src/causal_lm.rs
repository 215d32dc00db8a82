//! The interface of a causal language model, whatever its family.

use crate::head::HeadParameter;
use crate::kv_cache::KvCache;
use crate::parameters::StoredParameter;
use crate::sequences::{Packing, Sequences};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor};

/// What both stages need of a language model; [`Model`](crate::Model) is one of any family.
///
/// The forward pass has two parts, hidden states and [`head`](Self::head), so that the vocabulary-wide product is only
/// computed for the positions that are needed.
///
/// # Examples
/// ```
/// use burn::tensor::{Int, Tensor};
/// use logitcask_model::{CausalLm, DeviceChoice, ModelConfig, Sequences, weights};
///
/// let config: ModelConfig = serde_json::from_value(serde_json::json!({
///     "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
///     "num_attention_heads": 2, "num_key_value_heads": 1,
/// }))?;
/// let (device, _) = DeviceChoice::Cpu.open()?;
/// let model = weights::init(&config.resolved(100, 64)?, 0, &device);
/// let tokens = Tensor::<2, Int>::from_data([[1, 7, 3], [5, 2, 0]], &device);
/// // The last tokens of the two rows, of which the second has two.
/// let last = Tensor::<1, Int>::from_data([2, 4], &device);
/// let logits = model.head().logits(model.hidden_at(tokens, &Sequences::in_rows(2, 3), last));
/// assert_eq!(logits.dims(), [2, 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CausalLm: Module + Sync {
    /// Final hidden states, after the last norm. tokens: \[rows, width\], the shape of `sequences`; output: \[rows, width,
    /// hidden\]. Causal: a position is affected by the tokens of its sequence up to itself only.
    fn hidden(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> Tensor<3>;

    /// Final hidden states of some positions. positions: \[n\], flat indices into \[rows, width\]; output: \[n, hidden\].
    fn hidden_at(&self, tokens: Tensor<2, Int>, sequences: &Sequences, positions: Tensor<1, Int>) -> Tensor<2> {
        let hidden = self.hidden(tokens, sequences);
        let [rows, width, size] = hidden.dims();
        hidden.reshape([rows * width, size]).select(0, positions)
    }

    /// The same as [`hidden`](Self::hidden) outside any graph, with the inputs that
    /// [`gradients_by_layer`](Self::gradients_by_layer) needs, each \[rows, width, hidden\]. tokens: outside any graph.
    fn hidden_and_inputs(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> (Tensor<3>, Vec<Tensor<3>>);

    /// The gradients of all parameters that are trained, by gradient checkpointing (1604.06174): each layer is computed
    /// again from its input. of_hidden: d loss / d hidden, \[rows, width, hidden\], outside any graph.
    fn gradients_by_layer(
        &self,
        tokens: Tensor<2, Int>,
        sequences: &Sequences,
        inputs: Vec<Tensor<3>>,
        of_hidden: Tensor<3>,
    ) -> GradientsParams;

    /// A copy for forward and backward passes in `dtype`. Every parameter is cast to it, except for tables of embeddings;
    /// each keeps its id, and is trained if it was. The gradient of a parameter is in the copy's number format.
    #[must_use]
    fn computing_in(&self, dtype: DType) -> Self;

    /// Logits after texts of any lengths, and a cache of their tokens, so that [`step`](Self::step) continues them
    /// together. texts: at least one token each; output: \[texts, vocabulary\].
    fn prefill(&self, texts: &[&[u32]]) -> (Tensor<2>, KvCache);

    /// Logits after one more token in each row; `cache` holds the tokens before it. tokens: \[rows\]; output: \[rows,
    /// vocabulary\], equal to [`hidden`](Self::hidden) and the head at the last position.
    fn step(&self, tokens: Tensor<1, Int>, cache: &mut KvCache) -> Tensor<2>;

    /// The parameter that maps hidden states to logits.
    fn head(&self) -> HeadParameter<'_>;

    /// Every parameter with its name, without reading its values. Names are those that Llama's parameters have in files;
    /// in the files of other families ([`file_tensors`](crate::ModelConfig::file_tensors)) they may have others, and several may
    /// be in one tensor.
    fn named_parameters(&self) -> Vec<(String, StoredParameter<'_>)>;

    /// Every parameter with its name, its shape and its f32 values, row-major in Hugging Face's layout.
    /// Values are read lazily, so that one tensor at a time is in memory.
    fn state_dict(&self) -> impl Iterator<Item = (String, Vec<usize>, Vec<f32>)> {
        self.named_parameters().into_iter().map(|(name, stored)| (name, stored.shape(), stored.values()))
    }

    /// The parameters without weight decay: by default the vectors, which are norms and biases. Decay would pull a
    /// norm's weights from one, where they are neutral, to zero.
    fn no_decay(&self) -> ParamGroup {
        let mut vectors = Vectors::default();
        self.visit(&mut vectors);
        ParamGroup::from_paths(vectors.found)
    }

    /// Number of classes: rows of the head, including those of no token.
    fn vocab_size(&self) -> usize;

    /// Number of positions whose logits fit a buffer of 64 MiB: half of the smallest storage-buffer limit met in the
    /// field.
    fn logits_chunk(&self) -> usize {
        ((64 << 20) / (4 * self.vocab_size())).max(1)
    }

    /// The layout of sequences of several lengths with which it computes fastest.
    fn packing(&self) -> Packing;

    /// The device of its parameters.
    fn device(&self) -> Device {
        self.head().device()
    }
}

/// Collects the paths of one-dimensional parameters.
#[derive(Default)]
struct Vectors {
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Vectors {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        if D == 1 {
            self.found.push(self.path.join("."));
        }
    }
}
