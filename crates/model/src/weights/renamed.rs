//! Tensors under the names that `transformers` has for them, where a file spells them in another way.

use super::WeightSource;
use crate::{Error, Precision, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Another source, whose tensors have the names that a family gives them.
pub(crate) struct RenamedWeights {
    source: Box<dyn WeightSource + Send + Sync>,
    /// The source's name of each tensor.
    names: BTreeMap<String, String>,
}

impl RenamedWeights {
    /// `standard_name` returns the name of a tensor, or `None` for one that is no part of the model.
    ///
    /// # Errors
    /// [`Error::Tensor`] if two tensors have the same name.
    pub(crate) fn new(
        source: Box<dyn WeightSource + Send + Sync>,
        standard_name: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (theirs, _) in source.tensors() {
            let Some(name) = standard_name(&theirs) else { continue };
            if let Some(other) = names.insert(name.clone(), theirs.clone()) {
                let problem = format!("is there twice, as `{other}` and as `{theirs}`; remove the wrong one");
                return Err(Error::Tensor { path: source.path().to_owned(), name, problem });
            }
        }
        Ok(Self { source, names })
    }

    fn of_source<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }
}

impl WeightSource for RenamedWeights {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let shapes: BTreeMap<String, Vec<usize>> = self.source.tensors().into_iter().collect();
        let shape = |theirs: &String| shapes.get(theirs).cloned().unwrap_or_default();
        self.names.iter().map(|(name, theirs)| (name.clone(), shape(theirs))).collect()
    }

    fn stored(&self, name: &str) -> Result<Precision> {
        self.source.stored(self.of_source(name))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        self.source.values(self.of_source(name))
    }

    fn digest(&self, name: &str) -> Result<blake3::Hash> {
        self.source.digest(self.of_source(name))
    }
}
