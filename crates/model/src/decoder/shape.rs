//! What a decoder is built of, whatever its family: the blocks, their sizes, and the parameters that they need.
//!
//! Parameters have the names that Llama's have in files, with further ones for what Llama lacks. How a family's files
//! spell and arrange them is told by its [`Layout`](crate::families::Layout).

use super::mixer_shape::MixerShape;
use crate::activation::{Activation, Clamp};
use crate::rope::RotarySpeeds;

/// The embedding's name, which is also the head's if they are tied.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The name of the embedding of positions.
pub(crate) const POSITIONS: &str = "model.embed_positions.weight";
/// The names of the projections between the embedding's width and the residual stream's.
pub(crate) const PROJECT_IN: &str = "model.project_in";
pub(crate) const PROJECT_OUT: &str = "model.project_out";
/// The last norm's name.
pub(crate) const NORM: &str = "model.norm";
/// The name of a separate head.
pub(crate) const HEAD: &str = "lm_head.weight";

/// The names of a layer's norms: of the input of attention and its output, of the input of the feed-forward network
/// and its output.
pub(crate) const NORMS: [&str; 4] =
    ["input_layernorm", "attention_output_layernorm", "post_attention_layernorm", "feed_forward_output_layernorm"];
/// The name of a layer's feed-forward network.
pub(crate) const FEED_FORWARD: &str = "mlp";

/// The name of the number that its output is multiplied by.
pub(crate) const SCALAR: &str = "layer_scalar";

/// The full name of a part of a layer.
pub(crate) fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

/// The blocks of a decoder.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Number of classes.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// From tokens to the residual stream.
    pub(crate) embedding: EmbeddingShape,
    /// The rotary embeddings, of which each attention names one.
    pub(crate) ropes: Vec<RotarySpeeds>,
    /// The layers, first to last.
    pub(crate) layers: Vec<LayerShape>,
    /// The norm behind the last layer.
    pub(crate) norm: Option<NormShape>,
    /// From the residual stream to logits.
    pub(crate) head: HeadShape,
}

/// The way from tokens to the residual stream: (embedding\[token\] · scale) · project_in + positions\[p + offset\].
#[derive(Clone, Debug)]
pub(crate) struct EmbeddingShape {
    /// The embedding's width. If it is not the residual stream's, there is a projection before the layers and another
    /// before the head.
    pub(crate) size: usize,
    /// The factor of the embedding.
    pub(crate) scale: f64,
    /// Number of learned positions, and the row of the first of them.
    pub(crate) positions: Option<(usize, usize)>,
}

/// The way from the residual stream to logits: cap · tanh((scale · x · head + bias) / cap).
#[derive(Clone, Debug)]
pub(crate) struct HeadShape {
    /// Whether the embedding is also the head.
    pub(crate) is_tied: bool,
    /// Whether it has a bias, which is the last row of its weights, \[hidden + 1, vocabulary\].
    pub(crate) has_bias: bool,
    /// The factor of its input.
    pub(crate) scale: f64,
    /// The bound that logits approach.
    pub(crate) softcap: Option<f64>,
}

/// A norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NormShape {
    /// Its formula.
    pub(crate) kind: NormKind,
    /// Epsilon inside the square root.
    pub(crate) eps: f64,
    /// Whether it has weights.
    pub(crate) has_weight: bool,
    /// Whether it has a bias.
    pub(crate) has_bias: bool,
}

/// The formulas of norms, over the last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// x / sqrt(mean(x²) + eps) · weight.
    Rms,
    /// x / sqrt(mean(x²) + eps) · (1 + weight).
    RmsOnePlus,
    /// (x - mean(x)) / sqrt(variance(x) + eps) · weight + bias.
    Layer,
}

/// The blocks of a layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerShape {
    /// How its parts are added to the residual stream.
    pub(crate) order: Order,
    /// Which of [`NORMS`] there are.
    pub(crate) norms: [bool; 4],
    /// What they are.
    pub(crate) norm: NormShape,
    /// The factor of what is added to the residual stream.
    pub(crate) residual: f64,
    /// What mixes tokens.
    pub(crate) mixer: MixerShape,
    /// Its feed-forward network.
    pub(crate) feed_forward: FeedForwardShape,
    /// Whether its output is multiplied by a learned number.
    pub(crate) has_scalar: bool,
}

/// How attention a and feed-forward network f are added to the residual stream x. n, o, m and p are the norms, in the
/// order of [`NORMS`]; one that a layer lacks changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// y = x + o(a(n(x))), then y + p(f(m(y))).
    Sequential,
    /// x + a(n(x)) + f(m(x)); without m: x + a(n(x)) + f(n(x)).
    Parallel,
    /// y = o(x + a(x)), then p(y + f(y)).
    NormAfterSum,
}

/// A feed-forward network.
#[derive(Clone, Debug)]
pub(crate) enum FeedForwardShape {
    /// One for all tokens.
    Dense(DenseShape),
    /// Several, of which each token uses some.
    Experts(ExpertsShape),
}

/// A network of two layers.
#[derive(Clone, Debug)]
pub(crate) struct DenseShape {
    /// Its inner width.
    pub(crate) size: usize,
    /// Its nonlinearity.
    pub(crate) activation: Activation,
    /// Whether that is applied to a gate: down(activation(gate(x)) · up(x)) instead of down(activation(up(x))).
    pub(crate) is_gated: bool,
    /// What takes the place of the nonlinearity of a gate.
    pub(crate) clamp: Option<Clamp>,
    /// Whether its projections have a bias.
    pub(crate) has_bias: bool,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub(crate) struct ExpertsShape {
    /// Number of experts.
    pub(crate) count: usize,
    /// Number of experts that each token uses.
    pub(crate) per_token: usize,
    /// What each of them is.
    pub(crate) expert: DenseShape,
    /// How the chosen ones are weighted.
    pub(crate) weights: RouterWeights,
    /// Whether the router has a bias.
    pub(crate) has_router_bias: bool,
}

/// The weights of the experts that a token uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouterWeights {
    /// The softmax of the logits of all experts.
    Softmax {
        /// Divided by the sum over the chosen ones.
        is_normalised: bool,
    },
    /// The softmax of the logits of the chosen ones.
    SoftmaxOfChosen,
}

/// A parameter's name and its shape in Hugging Face's layout, in which linear weights are \[out, in\].
pub(crate) type Named = (String, Vec<usize>);

impl Shape {
    /// Every parameter with its name and shape, in the order in which a decoder is built. The head's is \[hidden + 1,
    /// vocabulary\] if it has a bias.
    pub(crate) fn parameters(&self) -> Vec<Named> {
        let [mut all, behind] = self.outside_layers();
        for (i, layer) in self.layers.iter().enumerate() {
            let parameters = layer.parameters(self.hidden_size);
            all.extend(parameters.into_iter().map(|(part, shape)| (in_layer(i, &part), shape)));
        }
        all.extend(behind);
        all
    }

    /// The parameters before the layers and those behind them.
    pub(crate) fn outside_layers(&self) -> [Vec<Named>; 2] {
        let (d, size, classes) = (self.hidden_size, self.embedding.size, self.vocab_size);
        let projection =
            |name: &str, shape: [usize; 2]| (size != d).then(|| (format!("{name}.weight"), shape.to_vec()));
        let mut before = vec![(EMBEDDING.to_owned(), vec![classes, size])];
        before.extend(projection(PROJECT_IN, [d, size]));
        before.extend(self.embedding.positions.map(|(count, first)| (POSITIONS.to_owned(), vec![count + first, d])));
        let mut behind: Vec<Named> = self.norm.iter().flat_map(|norm| norm.parameters(NORM, d)).collect();
        behind.extend(projection(PROJECT_OUT, [size, d]));
        if !self.head.is_tied {
            let shape = if self.head.has_bias { vec![size + 1, classes] } else { vec![classes, size] };
            behind.push((HEAD.to_owned(), shape));
        }
        [before, behind]
    }
}

impl NormShape {
    /// Its parameters, where it has this name and is over this width.
    pub(crate) fn parameters(&self, name: &str, width: usize) -> impl Iterator<Item = Named> + use<> {
        let weight = self.has_weight.then(|| (format!("{name}.weight"), vec![width]));
        let bias = self.has_bias.then(|| (format!("{name}.bias"), vec![width]));
        weight.into_iter().chain(bias)
    }
}

impl LayerShape {
    /// The parameters of a layer whose input has width d, without the layer's own name.
    pub(crate) fn parameters(&self, d: usize) -> Vec<Named> {
        let norm = |place: usize| {
            let norm = self.norms[place].then_some(self.norm);
            norm.into_iter().flat_map(move |norm| norm.parameters(NORMS[place], d))
        };
        let mut all: Vec<Named> = norm(0).collect();
        all.extend(self.mixer.parameters(d));
        all.extend(norm(1).chain(norm(2)));
        all.extend(self.feed_forward.parameters(d));
        all.extend(norm(3));
        all.extend(self.has_scalar.then(|| (SCALAR.to_owned(), vec![1])));
        all
    }
}

/// The parameters of a linear map.
pub(super) fn linear(name: &str, out: usize, inner: usize, has_bias: bool) -> impl Iterator<Item = Named> + use<> {
    let bias = has_bias.then(|| (format!("{name}.bias"), vec![out]));
    [(format!("{name}.weight"), vec![out, inner])].into_iter().chain(bias)
}

impl FeedForwardShape {
    fn parameters(&self, d: usize) -> Vec<Named> {
        match self {
            Self::Dense(dense) => dense.inputs(FEED_FORWARD, d).chain(dense.output(FEED_FORWARD, d)).collect(),
            Self::Experts(experts) => {
                let name = |e| format!("{FEED_FORWARD}.experts.{e}");
                let router = linear(&format!("{FEED_FORWARD}.router"), experts.count, d, experts.has_router_bias);
                let inputs = (0..experts.count).flat_map(|e| experts.expert.inputs(&name(e), d));
                let outputs = (0..experts.count).flat_map(|e| experts.expert.output(&name(e), d));
                router.chain(inputs).chain(outputs).collect()
            }
        }
    }

    /// Its inner width; with experts, that of one.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.size,
            Self::Experts(experts) => experts.expert.size,
        }
    }
}

impl DenseShape {
    fn inputs(&self, name: &str, d: usize) -> impl Iterator<Item = Named> + use<> {
        let gate = self.is_gated.then(|| linear(&format!("{name}.gate_proj"), self.size, d, self.has_bias));
        gate.into_iter().flatten().chain(linear(&format!("{name}.up_proj"), self.size, d, self.has_bias))
    }

    fn output(&self, name: &str, d: usize) -> impl Iterator<Item = Named> + use<> {
        linear(&format!("{name}.down_proj"), d, self.size, self.has_bias)
    }
}
