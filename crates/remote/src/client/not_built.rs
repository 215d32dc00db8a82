//! What stands for asking in a build without it.

use crate::{Error, Interface, Patience, Result, ServerModel, Told};

/// A model on a server, of which there is none in this build.
pub enum Client {}

impl Client {
    /// Fails in this build.
    ///
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn new(_: &str, _: &str, _: Interface, _: Option<String>, _: Patience) -> Result<Self> {
        Err(Error::NotBuilt)
    }

    /// Is never called.
    ///
    /// # Errors
    /// None.
    pub fn model(&self) -> Result<ServerModel> {
        match *self {}
    }

    /// Is never called.
    ///
    /// # Errors
    /// None.
    pub fn told(&self, _: &[&[u32]], _: u32) -> Result<Vec<Vec<Told>>> {
        match *self {}
    }
}
