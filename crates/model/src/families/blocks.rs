//! The blocks that a family's models are built of.

use crate::activation::Clamp;
use crate::decoder::{MixerShape, NormKind, Order, QkNorm, RouterWeights};
use crate::rope::QueryGrowth;
use logitcask_core::ConfigError;

/// What a family's models are built of besides their sizes. The default is Llama.
pub(super) struct Blocks {
    /// How a layer's parts are added to the residual stream.
    pub(super) order: Order,
    /// Which of the layer's norms there are: of attention's input and output, of the feed-forward network's input and
    /// output.
    pub(super) norms: [bool; 4],
    /// The formula of every norm.
    pub(super) norm: NormKind,
    /// Whether norms have weights.
    pub(super) norm_weight: bool,
    /// Whether norms have a bias.
    pub(super) norm_bias: bool,
    /// Whether there is a norm behind the last layer.
    pub(super) last_norm: bool,
    /// The norms of queries and keys.
    pub(super) qk_norm: Option<QkNorm>,
    /// Whether these have a bias.
    pub(super) qk_norm_bias: bool,
    /// Whether the values of each head are normalised, without weights.
    pub(super) v_norm: bool,
    /// The heads of layers without a window, if they are not those of the config.
    pub(super) full_heads: Option<FullHeads>,
    /// Whether the values of these layers are what their keys are before norm and rotation.
    pub(super) full_values_are_keys: bool,
    /// Biases of the projections to queries, keys and values.
    pub(super) qkv_bias: bool,
    /// A bias of the projection of attention's output.
    pub(super) output_bias: bool,
    /// Biases of the feed-forward network.
    pub(super) feed_forward_bias: bool,
    /// A bias of the head.
    pub(super) head_bias: bool,
    /// Whether the feed-forward network has a gate.
    pub(super) gate: bool,
    /// What takes the place of the nonlinearity of a gate.
    pub(super) clamp: Option<Clamp>,
    /// Experts in place of one feed-forward network.
    pub(super) experts: Option<Experts>,
    /// Whether attention has sinks.
    pub(super) sinks: bool,
    /// Whether attention's output is multiplied by the sigmoid of another projection.
    pub(super) attention_gate: bool,
    /// What some layers have in place of attention.
    pub(super) other_mixer: Option<OtherMixer>,
    /// The rotary embedding.
    pub(super) rope: Rope,
    /// How queries grow with their position.
    pub(super) query_growth: Option<QueryGrowth>,
    /// The factor of attention scores; `None`: 1 / sqrt(head_dim).
    pub(super) attention_scale: Option<f64>,
    /// Whether layer i divides it by i + 1.
    pub(super) attention_scale_by_layer: bool,
    /// The bound that attention scores approach.
    pub(super) attention_softcap: Option<f64>,
    /// The bound of every value of queries, keys and values.
    pub(super) clip_qkv: Option<f64>,
    /// The embedding's width; `None`: that of the residual stream.
    pub(super) embedding_size: Option<usize>,
    /// The factor of the embedding.
    pub(super) embedding_scale: f64,
    /// If positions are learned, the row of the first.
    pub(super) first_position: Option<usize>,
    /// The factor of what a layer adds to the residual stream.
    pub(super) residual: f64,
    /// Whether each layer ends with a product with a learned number.
    pub(super) layer_scalar: bool,
    /// The factor of logits.
    pub(super) logit_scale: f64,
    /// The bound that logits approach.
    pub(super) softcap: Option<f64>,
}

/// Mixtures of experts. A layer that has none has one feed-forward network of the config's `intermediate_size`.
pub(super) struct Experts {
    /// Number of experts.
    pub(super) count: usize,
    /// Number of experts that each token uses.
    pub(super) per_token: usize,
    /// Inner width of each.
    pub(super) size: usize,
    /// How the chosen ones are weighted.
    pub(super) weights: RouterWeights,
    /// Whether the router has a bias.
    pub(super) router_bias: bool,
    /// The layers without experts.
    pub(super) dense_layers: Vec<usize>,
}

impl Experts {
    /// Checks the number of experts, given with its key, and the number of those that each token uses.
    pub(super) fn check((key, count): (&str, usize), per_token: usize) -> Result<(), ConfigError> {
        ConfigError::unless((1..=4096).contains(&count), key, count, "at least 1 and at most 4096")?;
        let expected = format!("at least 1 and at most {key} = {count}");
        ConfigError::unless((1..=count).contains(&per_token), "num_experts_per_tok", per_token, expected)
    }
}

/// Heads of some layers.
#[derive(Clone, Copy)]
pub(super) struct FullHeads {
    /// Their width.
    pub(super) head_dim: usize,
    /// Number of key and value heads.
    pub(super) kv_count: usize,
}

/// What some layers have in place of attention.
pub(super) struct OtherMixer {
    /// Its kind and shape.
    pub(super) shape: MixerShape,
    /// The layers that have attention.
    pub(super) attention_layers: Vec<usize>,
}

/// Which layers have which rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rope {
    /// All have the same.
    Everywhere,
    /// None has one.
    Nowhere,
    /// These have it, the others have none.
    In(Vec<bool>),
    /// Those with a window have another base and no scaling.
    LocalBase(f64),
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            order: Order::Sequential,
            norms: [true, false, true, false],
            norm: NormKind::Rms,
            norm_weight: true,
            norm_bias: false,
            last_norm: true,
            qk_norm: None,
            qk_norm_bias: false,
            v_norm: false,
            full_heads: None,
            full_values_are_keys: false,
            qkv_bias: false,
            output_bias: false,
            feed_forward_bias: false,
            head_bias: false,
            gate: true,
            clamp: None,
            experts: None,
            sinks: false,
            attention_gate: false,
            other_mixer: None,
            rope: Rope::Everywhere,
            query_growth: None,
            attention_scale: None,
            attention_scale_by_layer: false,
            attention_softcap: None,
            clip_qkv: None,
            embedding_size: None,
            embedding_scale: 1.0,
            first_position: None,
            residual: 1.0,
            layer_scalar: false,
            logit_scale: 1.0,
            softcap: None,
        }
    }
}

impl Blocks {
    /// Layer norms with weights and biases, as in the families that descend from GPT-2.
    pub(super) fn with_layer_norms() -> Self {
        Self { norm: NormKind::Layer, norm_bias: true, ..Self::default() }
    }

    /// The same biases everywhere but in the head.
    pub(super) fn with_biases(self, has: bool) -> Self {
        Self { qkv_bias: has, output_bias: has, feed_forward_bias: has, ..self }
    }
}
