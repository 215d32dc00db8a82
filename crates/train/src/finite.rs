//! Detection of weights that are not finite.

use crate::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};

/// Returns the name of the first weight that has a value that is not finite. One number per tensor is read from the
/// device.
pub(crate) fn first_not_finite<M: Module>(model: &M) -> Result<Option<String>> {
    let mut sums = Sums::default();
    model.visit(&mut sums);
    if sums.sums.is_empty() {
        return Ok(None);
    }
    let numbers = Tensor::cat(sums.sums, 0).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
    let found = numbers.iter().position(|sum| !sum.is_finite());
    Ok(found.map(|place| sums.names[place].clone()))
}

#[derive(Default)]
struct Sums {
    path: Vec<String>,
    names: Vec<String>,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Sums {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.names.push(self.path.join("."));
        // The sum uses absolute values, so that two infinities do not cancel; a sum that overflows counts as not finite
        // too.
        self.sums.push(param.val().cast(DType::F32).abs().sum());
    }
}
