//! What stands for serving in a build without it.

use super::ServedModel;
use crate::{Error, Result};
use std::sync::atomic::AtomicBool;

/// An address at which connections are accepted, of which there is none in this build.
pub enum Listener {}

impl Listener {
    /// Fails in this build.
    ///
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn bind(_: &str) -> Result<Self> {
        Err(Error::NotBuilt)
    }

    /// Is never called.
    pub fn url(&self) -> &str {
        match *self {}
    }
}

/// Is never called.
pub fn serve(_: &dyn ServedModel, listener: &Listener, _: &AtomicBool) {
    match *listener {}
}
