//! What follows from a config: blocks, parameters, and their initial values.

use super::blocks::{Blocks, FullHeads, Rope};
use super::layout::Layout;
use super::rotary_pairs::RotaryPairs;
use super::{LayerType, ModelConfig};
use crate::decoder::{
    AttentionShape, DenseShape, EMBEDDING, EmbeddingShape, ExpertsShape, FeedForwardShape, HEAD, HeadShape, LayerShape,
    MixerShape, NormKind, NormShape, Shape,
};
use crate::host::Heads;
use crate::rope::{RotarySpeeds, TextLengths};
use logitcask_core::ConfigError;
use std::collections::BTreeMap;

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// The same value everywhere.
    Constant(f32),
    /// Normally distributed values with mean 0.
    Normal {
        /// Their standard deviation.
        deviation: f64,
    },
}

/// In what the layers of a model can differ that have parameters of other shapes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LayerKind {
    has_experts: bool,
    has_attention: bool,
    has_window: bool,
}

impl ModelConfig {
    fn blocks(&self) -> Blocks {
        self.model_type.family().blocks(self)
    }

    /// The blocks of the decoder.
    pub(crate) fn shape(&self) -> Shape {
        let blocks = self.blocks();
        Shape {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            embedding: EmbeddingShape {
                size: blocks.embedding_size.unwrap_or(self.hidden_size),
                scale: blocks.embedding_scale,
                positions: blocks.first_position.map(|first| (self.max_position_embeddings, first)),
            },
            ropes: self.speeds(),
            layers: (0..self.num_hidden_layers).map(|layer| self.layer(layer, &blocks)).collect(),
            norm: blocks.last_norm.then(|| self.norm(&blocks)),
            head: HeadShape {
                is_tied: self.tie_word_embeddings,
                has_bias: blocks.head_bias,
                scale: blocks.logit_scale,
                softcap: blocks.softcap,
            },
        }
    }

    /// The rotary embeddings: that of the config, and what other layers have instead.
    pub(super) fn speeds(&self) -> Vec<RotarySpeeds> {
        let blocks = self.blocks();
        let head_dim = blocks.full_heads.map_or(self.head_dim, |heads| heads.head_dim);
        let width = |head_dim: usize| (head_dim as f64 * self.rotary_part()) as usize;
        let lengths = TextLengths { text: self.text_length.0, trained: self.max_position_embeddings };
        let scaling = self.rope_scaling.as_ref().map(|scaling| (scaling, lengths));
        let own =
            || RotarySpeeds::new(head_dim, width(head_dim), self.rope_theta, scaling).with_growth(blocks.query_growth);
        match blocks.rope {
            Rope::Everywhere => vec![own()],
            Rope::Nowhere => vec![RotarySpeeds::still(self.head_dim)],
            Rope::In(_) => vec![own(), RotarySpeeds::still(self.head_dim)],
            Rope::LocalBase(theta) => {
                vec![own(), RotarySpeeds::new(self.head_dim, width(self.head_dim), theta, None)]
            }
        }
    }

    fn norm(&self, blocks: &Blocks) -> NormShape {
        NormShape {
            kind: blocks.norm,
            eps: self.rms_norm_eps,
            has_weight: blocks.norm_weight,
            has_bias: blocks.norm_bias,
        }
    }

    /// The blocks of a layer.
    fn layer(&self, layer: usize, blocks: &Blocks) -> LayerShape {
        let norm = self.norm(blocks);
        LayerShape {
            order: blocks.order,
            norms: blocks.norms,
            norm,
            residual: blocks.residual,
            mixer: self.mixer(layer, blocks),
            feed_forward: self.feed_forward(layer, blocks),
            has_scalar: blocks.layer_scalar,
        }
    }

    fn mixer(&self, layer: usize, blocks: &Blocks) -> MixerShape {
        if let Some(other) = blocks.other_mixer.as_ref().filter(|other| !other.attention_layers.contains(&layer)) {
            return other.shape.clone();
        }
        let norm = self.norm(blocks);
        MixerShape::Attention(AttentionShape {
            heads: self.heads(layer, blocks),
            rope: match &blocks.rope {
                Rope::Everywhere | Rope::Nowhere => 0,
                Rope::In(layers) => usize::from(!layers.get(layer).copied().unwrap_or(true)),
                Rope::LocalBase(_) => usize::from(self.window(layer).is_some()),
            },
            has_qkv_bias: blocks.qkv_bias,
            has_gate: blocks.attention_gate,
            has_output_bias: blocks.output_bias,
            qk_norm: blocks.qk_norm.map(|over| (over, NormShape { has_bias: blocks.qk_norm_bias, ..norm })),
            v_norm: blocks.v_norm.then_some(NormShape { has_weight: false, has_bias: false, ..norm }),
            has_values: !(blocks.full_values_are_keys && self.window(layer).is_none()),
            clip: blocks.clip_qkv,
            has_sinks: blocks.sinks,
        })
    }

    fn feed_forward(&self, layer: usize, blocks: &Blocks) -> FeedForwardShape {
        let dense = |size| DenseShape {
            size,
            activation: self.activation(),
            is_gated: blocks.gate,
            clamp: blocks.clamp,
            has_bias: blocks.feed_forward_bias,
        };
        match blocks.experts.as_ref().filter(|experts| !experts.dense_layers.contains(&layer)) {
            None => FeedForwardShape::Dense(dense(self.intermediate_size)),
            Some(experts) => FeedForwardShape::Experts(ExpertsShape {
                count: experts.count,
                per_token: experts.per_token,
                expert: dense(experts.size),
                weights: experts.weights,
                has_router_bias: experts.router_bias,
            }),
        }
    }

    fn heads(&self, layer: usize, blocks: &Blocks) -> Heads {
        let own = FullHeads { head_dim: self.head_dim, kv_count: self.num_key_value_heads };
        let FullHeads { head_dim, kv_count } =
            blocks.full_heads.filter(|_| self.window(layer).is_none()).unwrap_or(own);
        let scale = blocks.attention_scale.unwrap_or(1.0 / (head_dim as f64).sqrt());
        let divisor = if blocks.attention_scale_by_layer { layer as f64 + 1.0 } else { 1.0 };
        Heads {
            count: self.num_attention_heads,
            kv_count,
            head_dim,
            window: self.window(layer),
            scale: (scale / divisor) as f32,
            softcap: blocks.attention_softcap.map(|cap| cap as f32),
        }
    }

    /// Number of parameters, from the sizes alone.
    pub fn parameters(&self) -> usize {
        usize::try_from(self.parameter_count()).unwrap_or(usize::MAX)
    }

    /// The same without a limit. Layers of one kind have the same parameters, so that those of one are enough, and
    /// nothing overflows whatever the sizes are.
    pub(super) fn parameter_count(&self) -> u128 {
        let product = |shape: Vec<usize>| shape.into_iter().map(|n| n as u128).product::<u128>();
        let blocks = self.blocks();
        let shape = Self { num_hidden_layers: 0, ..self.clone() }.shape();
        let outside: u128 = shape.parameters().into_iter().map(|(_, shape)| product(shape)).sum();
        let of_layer = |layer: usize| -> u128 {
            let parameters = self.layer(layer, &blocks).parameters(self.hidden_size);
            parameters.into_iter().map(|(_, shape)| product(shape)).sum()
        };
        // The first layer of each kind, and how many there are.
        let mut kinds: BTreeMap<LayerKind, (usize, u128)> = BTreeMap::new();
        for layer in 0..self.num_hidden_layers {
            kinds.entry(self.layer_kind(layer, &blocks)).or_insert((layer, 0)).1 += 1;
        }
        outside + kinds.into_values().map(|(layer, count)| count * of_layer(layer)).sum::<u128>()
    }

    /// Layers of one kind have parameters of the same shapes.
    fn layer_kind(&self, layer: usize, blocks: &Blocks) -> LayerKind {
        LayerKind {
            has_experts: blocks.experts.as_ref().is_some_and(|experts| !experts.dense_layers.contains(&layer)),
            has_attention: blocks.other_mixer.as_ref().is_none_or(|other| other.attention_layers.contains(&layer)),
            has_window: self.window(layer).is_some(),
        }
    }

    /// How the family's files hold the parameters.
    pub(crate) fn layout(&self) -> Layout {
        let family = self.model_type.family();
        let pairs = RotaryPairs { part: self.rotary_part(), are_neighbours: family.pairs_are_neighbours() };
        Layout::new(&self.shape(), &family.names(self), pairs)
    }

    /// Every parameter with its name and its shape in Hugging Face's layout. Names are Llama's in every family, and recipes
    /// name [parts](crate::parts) by them; [`Self::file_tensors`] has the names in files.
    pub fn named_parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.shape().parameters()
    }

    /// Every tensor of the family's files with its Hugging Face name and shape. In many families these are neither the
    /// names nor the shapes of the [parameters](Self::named_parameters): a tensor may hold several.
    pub fn file_tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.layout().tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
    }

    /// The names in the family's files of the embedding and of the head that it has a copy of, if both are one.
    pub(crate) fn tied_names(&self) -> Option<[String; 2]> {
        let names = self.name_outside_layers(EMBEDDING).zip(self.head_name());
        names.filter(|_| self.tie_word_embeddings).map(<[String; 2]>::from)
    }

    /// The name in the family's files of a separate head, whether this model has one or not.
    pub(crate) fn head_name(&self) -> Option<String> {
        self.name_outside_layers(HEAD)
    }

    fn name_outside_layers(&self, parameter: &str) -> Option<String> {
        let outside = Self { tie_word_embeddings: false, num_hidden_layers: 0, ..self.clone() }.layout();
        outside.holders(parameter).next().map(|tensor| tensor.name.clone())
    }

    /// The name that `transformers` has for a tensor of the family's files; `None` for one that is no part of the decoder.
    pub(crate) fn standard_name(&self, name: &str) -> Option<String> {
        self.model_type.family().standard_name(name)
    }

    /// Whether a file may contain this tensor although no parameter is made from it: older files contain rotary angles
    /// and causal masks, which every reader computes itself.
    pub(crate) fn is_ignored(name: &str) -> bool {
        let endings =
            [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];
        endings.iter().any(|ending| name.ends_with(ending))
    }

    /// Initial values of the parameter with this name: normal weights of deviation 0.02, scaled by 1 / sqrt(2 · layers)
    /// for those that write into the residual stream; norms multiply by one, and biases are zero.
    pub(crate) fn initial(&self, name: &str) -> Initial {
        if [".layer_scalar", ".dt_bias", "linear_attn.norm.weight"].iter().any(|ending| name.ends_with(ending)) {
            return Initial::Constant(1.0);
        }
        if name.ends_with("norm.weight") {
            let is_one_plus = self.blocks().norm == NormKind::RmsOnePlus;
            return Initial::Constant(if is_one_plus { 0.0 } else { 1.0 });
        }
        if name.ends_with(".bias") || name.ends_with(".sinks") || name.ends_with(".A_log") {
            return Initial::Constant(0.0);
        }
        let into_residual =
            ["o_proj.weight", "out_proj.weight", "down_proj.weight"].iter().any(|ending| name.ends_with(ending));
        let scale = if into_residual { (2.0 * self.num_hidden_layers as f64).sqrt() } else { 1.0 };
        Initial::Normal { deviation: 0.02 / scale }
    }

    /// Checks that the feed-forward networks can be made narrower.
    pub(crate) fn check_channels_can_be_cut(&self) -> Result<(), ConfigError> {
        let has_experts = self.blocks().experts.is_some();
        let expected = "left out: the experts of a mixture keep their width";
        ConfigError::unless(!has_experts, "intermediate_size", self.intermediate_size, expected)
    }

    /// Checks that heads can be left out.
    pub(crate) fn check_heads_can_be_cut(&self) -> Result<(), ConfigError> {
        let differ = self.blocks().full_heads.is_some();
        let expected = "left out: the layers of this model have heads of two kinds";
        ConfigError::unless(!differ, "num_attention_heads", self.num_attention_heads, expected)
    }

    /// Keeps the settings of these layers of the model that this was.
    pub(crate) fn keep_layers(&mut self, layers: &[usize]) -> Result<(), ConfigError> {
        self.model_type.family().keep_layers(self, layers)
    }

    /// The layers that see everything before them.
    pub(super) fn full_layers(&self) -> Vec<bool> {
        self.layer_types().into_iter().map(|kind| kind == LayerType::Full).collect()
    }
}
