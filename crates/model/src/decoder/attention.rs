//! Attention.

use super::linear::Linear;
use super::mixer_shape::{AttentionShape, QkNorm};
use super::norm::Norm;
use super::prefill::Columns;
use super::tensor_attention::{TensorLayout, attend};
use crate::host;
use crate::kv_cache::LayerCache;
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::rope::RotaryAngles;
use crate::sequences::Sequences;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use std::sync::Arc;

/// Causal grouped-query attention with rotary positions.
#[derive(Module, Debug)]
pub(super) struct Attention {
    q: Linear,
    /// The output is multiplied by the sigmoid of it.
    gate: Option<Linear>,
    k: Linear,
    /// `None`: values are what keys are before norm and rotation.
    v: Option<Linear>,
    o: Linear,
    /// Norms of queries and keys, before they are turned.
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    v_norm: Option<Norm>,
    sinks: Option<Param<Tensor<1>>>,
    #[module(skip)]
    shape: AttentionShape,
}

impl Attention {
    /// The attention named `name`.
    pub(super) fn build<E>(
        parameters: &mut ParameterBuilder<'_, E>,
        name: &str,
        shape: &AttentionShape,
    ) -> Result<Self, E> {
        let mut linear = |part: &str, has_bias| Linear::build(parameters, &format!("{name}.{part}"), has_bias);
        let q = linear("q_proj", shape.has_qkv_bias)?;
        let gate = shape.has_gate.then(|| linear("gate_proj", shape.has_qkv_bias)).transpose()?;
        let k = linear("k_proj", shape.has_qkv_bias)?;
        let v = shape.has_values.then(|| linear("v_proj", shape.has_qkv_bias)).transpose()?;
        let o = linear("o_proj", shape.has_output_bias)?;
        let mut norm = |part: &str| {
            let norm = |(_, norm)| Norm::build(parameters, &format!("{name}.{part}"), norm);
            shape.qk_norm.map(norm).transpose()
        };
        let (q_norm, k_norm) = (norm("q_norm")?, norm("k_norm")?);
        let v_norm = shape.v_norm.map(|norm| Norm::build(parameters, &format!("{name}.v_norm"), norm)).transpose()?;
        let sinks = shape.has_sinks.then(|| parameters.vector(&format!("{name}.sinks"))).transpose()?;
        Ok(Self { q, gate, k, v, o, q_norm, k_norm, v_norm, sinks, shape: shape.clone() })
    }

    /// What it is.
    pub(super) fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// x: \[tokens, hidden\]; output as x.
    pub(super) fn forward(&self, x: Tensor<2>, layout: &Layout, past: Option<Past<'_>>) -> Tensor<2> {
        let [q, k] = [&self.q, &self.k].map(|linear| self.clipped(linear.forward(x.clone())));
        let gate = self.gate.as_ref().map(|gate| sigmoid(gate.forward(x.clone())));
        let v = self.v.as_ref().map_or_else(|| k.clone(), |linear| self.clipped(linear.forward(x)));
        let [q, k] = [(q, &self.q_norm), (k, &self.k_norm)].map(|(x, norm)| self.normed(x, norm.as_ref()));
        let v = match &self.v_norm {
            Some(norm) => norm.forward_heads(v, self.shape.heads.head_dim),
            None => v,
        };
        let (heads, rope) = (self.shape.heads, self.shape.rope);
        let past = match past {
            Some(Past::Step(entry)) => Some(entry),
            Some(Past::Start(entry, columns)) => {
                let both = columns.keys_and_values(k.clone(), v.clone(), &heads, rope);
                *entry = LayerCache::KeysAndValues(Box::new(both));
                None
            }
            None => None,
        };
        let sinks = self.sinks.as_ref().map(Param::val);
        let out = match layout {
            Layout::Host { sequences, angles } => {
                host::attention([q, k, v], sinks, heads, sequences.clone(), angles[rope].clone())
            }
            Layout::Tensors(layout) => attend([q, k, v], &heads, sinks, (layout, rope), past),
        };
        self.o.forward(match gate {
            Some(gate) => out * gate,
            None => out,
        })
    }

    /// Bounded on both sides, if there is a bound.
    fn clipped(&self, x: Tensor<2>) -> Tensor<2> {
        match self.shape.clip {
            Some(most) => x.clamp(-most, most),
            None => x,
        }
    }

    /// Normalises queries or keys.
    fn normed(&self, x: Tensor<2>, norm: Option<&Norm>) -> Tensor<2> {
        let (Some(norm), Some((over, _))) = (norm, self.shape.qk_norm) else { return x };
        let head_dim = self.shape.heads.head_dim;
        match over {
            QkNorm::Head => norm.forward_heads(x, head_dim),
            QkNorm::OwnHead => norm.forward_own_heads(x, head_dim),
            QkNorm::Whole => norm.forward(x),
        }
    }

    /// Its parameters with their names.
    pub(super) fn named(&self, name: &str) -> Vec<(String, StoredParameter<'_>)> {
        let [q, k, o] = [&self.q, &self.k, &self.o].map(Some);
        let linear = [
            ("q_proj", q),
            ("gate_proj", self.gate.as_ref()),
            ("k_proj", k),
            ("v_proj", self.v.as_ref()),
            ("o_proj", o),
        ];
        let linear = linear.into_iter().filter_map(|(part, linear)| Some((part, linear?)));
        let norms = [("q_norm", &self.q_norm), ("k_norm", &self.k_norm)];
        let linear = linear.flat_map(|(part, linear)| linear.named(&format!("{name}.{part}")));
        let norms = norms.into_iter().filter_map(|(part, norm)| Some(norm.as_ref()?.named(&format!("{name}.{part}"))));
        let sinks = self.sinks.iter().map(|sinks| (format!("{name}.sinks"), StoredParameter::Vector(sinks)));
        linear.chain(norms.flatten()).chain(sinks).collect()
    }
}

/// What a layer keeps of earlier tokens.
pub(super) enum Past<'a> {
    /// There is one new token per row, which sees those in the entry and is added to them.
    Step(&'a mut LayerCache),
    /// The tokens are the first ones. Their keys and values become the entry.
    Start(&'a mut LayerCache, &'a Columns),
}

/// The positions of the tokens of a pass, and which of them see each other.
pub(super) enum Layout {
    /// For the operations of [`host`].
    Host {
        /// Each attends to itself only.
        sequences: Sequences,
        /// Those of positions from 0 on, for each of the model's rotary embeddings.
        angles: Vec<Arc<RotaryAngles>>,
    },
    /// For a composition of tensor operations.
    Tensors(Box<TensorLayout>),
}

impl Layout {
    /// The sequences of the tokens.
    pub(super) fn sequences(&self) -> &Sequences {
        match self {
            Self::Host { sequences, .. } => sequences,
            Self::Tensors(layout) => layout.sequences(),
        }
    }
}
