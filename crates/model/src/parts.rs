//! Names of a model's parts, as recipes write them, and the parameters that they stand for.
//!
//! A part is one or several consecutive components of a tensor's Hugging Face name. Of
//! `model.layers.3.self_attn.q_proj.weight`, these are for example `layers` (all layers), `layers.3`, `self_attn`,
//! `layers.3.self_attn` and `q_proj`.
//!
//! # Examples
//! ```
//! use logitcask_model::parts::is_in;
//!
//! let name = "model.layers.12.self_attn.q_proj.weight";
//! assert!(is_in(name, "q_proj") && is_in(name, "layers.12") && is_in(name, "layers"));
//! assert!(!is_in(name, "layers.1") && !is_in(name, "q") && !is_in(name, "layers.self_attn"));
//! ```

use crate::{CausalLm, Model, ModelConfig};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::{BTreeSet, HashMap};

/// Whether a tensor with this Hugging Face name belongs to a part.
pub fn is_in(name: &str, part: &str) -> bool {
    let (name, part): (Vec<&str>, Vec<&str>) = (name.split('.').collect(), part.split('.').collect());
    name.windows(part.len()).any(|components| components == part)
}

/// Whether a tensor with this name and shape is the weight of a linear map within a layer, which can have an adapter.
fn is_linear(name: &str, shape: &[usize]) -> bool {
    is_in(name, "layers") && name.ends_with(".weight") && shape.len() == 2
}

impl ModelConfig {
    /// Names of the weights of the linear maps within layers, which can have adapters.
    pub fn linear_maps(&self) -> Vec<String> {
        self.tensors().into_iter().filter(|(name, shape)| is_linear(name, shape)).map(|(name, _)| name).collect()
    }
}

/// The parts of these tensors that have a name of their own, for messages: neither the number of a layer nor `weight`.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let components = names.into_iter().flat_map(|name| name.split('.'));
    let is_part = |name: &&str| !["model", "weight", "bias"].contains(name) && name.parse::<usize>().is_err();
    let parts: BTreeSet<&str> = components.filter(is_part).collect();
    parts.into_iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ")
}

/// A parameter of a model in training, which may belong to an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterPath {
    /// The Hugging Face name of the tensor; that of the adapted weight for a parameter of an adapter.
    pub name: String,
    /// Its path among burn's modules, by which optimizers group parameters.
    pub path: String,
    /// Whether it is trained.
    pub is_trained: bool,
    /// Number of dimensions.
    pub rank: usize,
}

/// Every parameter of a model, adapters included.
pub fn parameters(model: &Model) -> Vec<ParameterPath> {
    let ids = model.named_parameters().into_iter().map(|(name, stored)| (stored.id(), name));
    let mut found = Paths { names: ids.collect(), ..Paths::default() };
    model.visit(&mut found);
    found.found
}

/// Collects parameters; an adapter is visited right after the weight that it adapts.
#[derive(Default)]
struct Paths {
    names: HashMap<u64, String>,
    path: Vec<String>,
    last: String,
    found: Vec<ParameterPath>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(name) = self.names.get(&parameter.id.val()) {
            self.last.clone_from(name);
        }
        self.found.push(ParameterPath {
            name: self.last.clone(),
            path: self.path.join("."),
            is_trained: parameter.is_require_grad(),
            rank: D,
        });
    }
}
