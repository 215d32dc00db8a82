//! What mixes the tokens of a layer: attention, or something in its place.

use super::shape::{Named, NormShape, linear};
use crate::activation::Activation;
use crate::host::Heads;

/// The names of the kinds.
pub(crate) const ATTENTION: &str = "self_attn";
pub(crate) const SHORT_CONV: &str = "conv";
pub(crate) const GATED_DELTA: &str = "linear_attn";

/// One of the kinds.
#[derive(Clone, Debug)]
pub(crate) enum MixerShape {
    /// Attention.
    Attention(AttentionShape),
    /// A gated convolution over a few tokens.
    ShortConv(ShortConvShape),
    /// Linear attention by the gated delta rule.
    GatedDelta(GatedDeltaShape),
}

/// An attention.
#[derive(Clone, Debug)]
pub(crate) struct AttentionShape {
    /// Heads, window and scores.
    pub(crate) heads: Heads,
    /// Index of its rotary embedding.
    pub(crate) rope: usize,
    /// Whether the projections to queries, keys and values have a bias.
    pub(crate) has_qkv_bias: bool,
    /// Whether its output is multiplied by the sigmoid of another projection of the input.
    pub(crate) has_gate: bool,
    /// Whether the projection of its output has one.
    pub(crate) has_output_bias: bool,
    /// The norms of queries and keys, before they are turned.
    pub(crate) qk_norm: Option<(QkNorm, NormShape)>,
    /// The norm of each head's values.
    pub(crate) v_norm: Option<NormShape>,
    /// Whether values have a projection of their own; otherwise they are what keys are before norm and rotation.
    pub(crate) has_values: bool,
    /// The bound of every value of queries, keys and values.
    pub(crate) clip: Option<f64>,
    /// Whether each head has a learned logit that takes part in the softmax and whose weight is dropped.
    pub(crate) has_sinks: bool,
}

/// What a norm of queries or keys is computed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// Each head, with the same weights.
    Head,
    /// Each head, with weights of its own.
    OwnHead,
    /// All heads together.
    Whole,
}

/// c · conv(b · y) for b, c and y projected from the input, each of its width, and projected again. Each channel has a
/// filter of its own, causal within a sequence (LFM2).
#[derive(Clone, Debug)]
pub(crate) struct ShortConvShape {
    /// Number of tokens that a filter sees, the current one among them.
    pub(crate) length: usize,
    /// Whether filters and projections have a bias.
    pub(crate) has_bias: bool,
}

/// Linear attention by the gated delta rule (2412.06464). Queries, keys and values pass a causal convolution and a
/// nonlinearity, queries and keys have length one, and each head keeps a matrix S of the sequence so far:
/// S ← a S + k (b (v - a Sᵀ k))ᵀ, with a = exp(-exp(A_log) · softplus(a_proj(x) + dt_bias)) and b = sigmoid(b_proj(x)). Its
/// output is norm(Sᵀ q / sqrt(key_dim)) · silu(z_proj(x)), projected.
#[derive(Clone, Debug)]
pub(crate) struct GatedDeltaShape {
    /// Number of heads of queries and keys, each of which serves a group of values.
    pub(crate) key_heads: usize,
    /// Number of heads of values.
    pub(crate) value_heads: usize,
    /// Width of a head of queries or keys.
    pub(crate) key_dim: usize,
    /// Width of a head of values.
    pub(crate) value_dim: usize,
    /// Number of tokens that the convolution sees, the current one among them.
    pub(crate) conv_length: usize,
    /// The nonlinearity behind the convolution.
    pub(crate) activation: Activation,
    /// The norm of each head's output.
    pub(crate) norm: NormShape,
}

impl MixerShape {
    /// The attention, if it is one.
    pub(crate) fn attention(&self) -> Option<&AttentionShape> {
        match self {
            Self::Attention(attention) => Some(attention),
            Self::ShortConv(_) | Self::GatedDelta(_) => None,
        }
    }

    /// The parameters of one whose input has width d, without the layer's name.
    pub(super) fn parameters(&self, d: usize) -> Vec<Named> {
        match self {
            Self::Attention(attention) => attention.parameters(d),
            Self::ShortConv(conv) => conv.parameters(d),
            Self::GatedDelta(delta) => delta.parameters(d),
        }
    }
}

impl AttentionShape {
    fn parameters(&self, d: usize) -> Vec<Named> {
        let ([q, kv], bias) = (self.heads.token_sizes(), self.has_qkv_bias);
        let name = |part: &str| format!("{ATTENTION}.{part}");
        let mut all: Vec<Named> = linear(&name("q_proj"), q, d, bias).collect();
        all.extend(self.has_gate.then(|| linear(&name("gate_proj"), q, d, bias)).into_iter().flatten());
        all.extend(linear(&name("k_proj"), kv, d, bias));
        all.extend(self.has_values.then(|| linear(&name("v_proj"), kv, d, bias)).into_iter().flatten());
        all.extend(linear(&name("o_proj"), d, q, self.has_output_bias));
        if let Some((over, norm)) = self.qk_norm {
            let width = |whole| if over == QkNorm::Head { self.heads.head_dim } else { whole };
            all.extend(norm.parameters(&name("q_norm"), width(q)).chain(norm.parameters(&name("k_norm"), width(kv))));
        }
        all.extend(self.has_sinks.then(|| (name("sinks"), vec![self.heads.count])));
        all
    }
}

impl ShortConvShape {
    fn parameters(&self, d: usize) -> Vec<Named> {
        let name = |part: &str| format!("{SHORT_CONV}.{part}");
        let mut all: Vec<Named> = linear(&name("in_proj"), 3 * d, d, self.has_bias).collect();
        all.extend(linear(&name("conv"), d, self.length, self.has_bias));
        all.extend(linear(&name("out_proj"), d, d, self.has_bias));
        all
    }
}

impl GatedDeltaShape {
    /// Number of values of a token's queries or keys, and of its values.
    pub(crate) fn token_sizes(&self) -> [usize; 2] {
        [self.key_heads * self.key_dim, self.value_heads * self.value_dim]
    }

    fn parameters(&self, d: usize) -> Vec<Named> {
        let name = |part: &str| format!("{GATED_DELTA}.{part}");
        let ([keys, values], heads) = (self.token_sizes(), self.value_heads);
        let channels = 2 * keys + values;
        let mut all: Vec<Named> = linear(&name("in_proj_qkv"), channels, d, false).collect();
        all.extend(linear(&name("in_proj_z"), values, d, false));
        all.extend(linear(&name("in_proj_b"), heads, d, false));
        all.extend(linear(&name("in_proj_a"), heads, d, false));
        all.extend(linear(&name("conv1d"), channels, self.conv_length, false));
        all.extend([(name("dt_bias"), vec![heads]), (name("A_log"), vec![heads])]);
        all.extend(self.norm.parameters(&name("norm"), self.value_dim));
        all.extend(linear(&name("out_proj"), d, values, false));
        all
    }
}
