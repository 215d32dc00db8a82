//! What stands for serving in a build without it.

use super::ServedModel;
use crate::{Error, Result};
use std::sync::atomic::AtomicBool;

/// Fails in this build.
///
/// # Errors
/// [`Error::NotBuilt`].
pub fn serve(_: &dyn ServedModel, _: &str, _: &AtomicBool, _: &dyn Fn(&str)) -> Result<()> {
    Err(Error::NotBuilt)
}
