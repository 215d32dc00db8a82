//! Names of a model's parts, as recipes write them, and the parameters that they stand for.
//!
//! A part is one or several consecutive components of a parameter's name
//! ([`named_parameters`](ModelConfig::named_parameters)). Of `model.layers.3.self_attn.q_proj.weight`, these are for example
//! `layers` (all layers), `layers.3`, `self_attn`, `layers.3.self_attn` and `q_proj`. Names are Llama's in every family,
//! whatever a family's files call their tensors.
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

/// Whether a parameter with this name belongs to a part.
pub fn is_in(name: &str, part: &str) -> bool {
    let (name, part): (Vec<&str>, Vec<&str>) = (name.split('.').collect(), part.split('.').collect());
    name.windows(part.len()).any(|components| components == part)
}

/// Whether a parameter with this name and shape is the weight of a linear map within a layer, which can have an adapter.
fn is_linear(name: &str, shape: &[usize]) -> bool {
    is_in(name, "layers") && name.ends_with(".weight") && shape.len() == 2
}

impl ModelConfig {
    /// Names of the weights of the linear maps within layers, which can have adapters.
    pub fn linear_maps(&self) -> Vec<String> {
        let all = self.named_parameters().into_iter();
        all.filter(|(name, shape)| is_linear(name, shape)).map(|(name, _)| name).collect()
    }

    /// The parameters, without the names of what they are in, that the family's files have in tensors whose names belong to
    /// `part`: for a message about a part that is named as in the files.
    pub fn parts_in_files(&self, part: &str) -> BTreeSet<String> {
        let layout = self.layout();
        let held = layout.tensors().iter().filter(|tensor| is_in(&tensor.name, part)).flat_map(|tensor| &tensor.parts);
        let module = |parameter: &str| {
            let (module, _) = parameter.rsplit_once('.')?;
            Some(module.rsplit_once('.').map_or(module, |(_, last)| last).to_owned())
        };
        held.filter_map(|held| module(&held.parameter)).collect()
    }
}

/// The parts of these parameters that have a name of their own, for messages: neither the number of a layer nor `weight`.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let components = names.into_iter().flat_map(|name| name.split('.'));
    let is_part = |name: &&str| !["model", "weight", "bias"].contains(name) && name.parse::<usize>().is_err();
    let parts: BTreeSet<&str> = components.filter(is_part).collect();
    parts.into_iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ")
}

/// A parameter of a model in training, which may belong to an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterPath {
    /// Its name; that of the adapted weight for a parameter of an adapter.
    pub name: String,
    /// Its path among burn's modules, by which optimizers group parameters.
    pub path: String,
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
        self.found.push(ParameterPath { name: self.last.clone(), path: self.path.join(".") });
    }
}
