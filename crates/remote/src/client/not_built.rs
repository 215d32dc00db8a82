//! What stands for asking in a build without it.

use crate::{AnswerPosition, Error, Interface, Result, RetryPolicy, ServerModel};

/// A model on a server, of which there is none in this build.
pub enum Client {}

impl Client {
    /// Fails in this build.
    ///
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn new(_: &str, _: &str, _: Interface, _: Option<String>, _: RetryPolicy) -> Result<Self> {
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
    pub fn log_probs(&self, _: &[&[u32]], _: u32) -> Result<Vec<Vec<AnswerPosition>>> {
        match *self {}
    }
}
