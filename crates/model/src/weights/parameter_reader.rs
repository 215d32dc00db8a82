//! Reading of the decoder's parameters from a family's tensors.

use super::WeightSource;
use crate::families::Layout;
use crate::{Error, Result};

/// Number of tensors that are kept in memory, because they hold further parameters: a fused projection's weights and its
/// bias.
const KEPT: usize = 2;

/// Reads parameters one after the other. A tensor that holds several of them is read once if these follow each other.
pub(super) struct ParameterReader<'a> {
    layout: Layout,
    source: &'a dyn WeightSource,
    /// The last tensors with several parameters, and how many of these are still to be read.
    recent: Vec<Recent>,
}

struct Recent {
    name: String,
    values: Vec<f32>,
    to_read: usize,
}

impl<'a> ParameterReader<'a> {
    pub(super) fn new(layout: Layout, source: &'a dyn WeightSource) -> Self {
        Self { layout, source, recent: Vec::new() }
    }

    /// The values of a parameter, row-major.
    ///
    /// # Errors
    /// [`Error::Tensor`] if one is not a finite number; an error of the source.
    pub(super) fn values(&mut self, parameter: &str) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for tensor in self.layout.holders(parameter) {
            if tensor.is_whole_parameter() {
                return finite(self.source, &tensor.name);
            }
            let place = self.recent.iter().position(|recent| recent.name == tensor.name);
            let mut recent = match place {
                Some(place) => self.recent.remove(place),
                None => {
                    let values = finite(self.source, &tensor.name)?;
                    Recent { name: tensor.name.clone(), values, to_read: tensor.parts.len() }
                }
            };
            tensor.take(parameter, &recent.values, &mut out);
            recent.to_read -= 1;
            if recent.to_read > 0 {
                self.recent.truncate(KEPT - 1);
                self.recent.insert(0, recent);
            }
        }
        Ok(out)
    }
}

/// The values of a tensor, all of them finite numbers.
fn finite(source: &dyn WeightSource, name: &str) -> Result<Vec<f32>> {
    let values = source.values(name)?;
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(bad) => Err(Error::Tensor {
            path: source.path().to_owned(),
            name: name.to_owned(),
            problem: format!("holds {bad}; a weight must be a finite number"),
        }),
    }
}
