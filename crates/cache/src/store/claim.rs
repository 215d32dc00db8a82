//! What a worker holds while it works on a unit.

use std::fmt;

/// A worker's claim to a unit, released when it is dropped.
#[derive(Debug)]
pub struct Claim {
    /// What releases the claim when it is dropped.
    _held: Option<Box<dyn fmt::Debug + Send + Sync>>,
}

impl Claim {
    /// An empty claim, for a worker that works on a unit without claiming it.
    pub fn none() -> Self {
        Self { _held: None }
    }

    /// A claim that lasts until `held` is dropped with it.
    pub fn of(held: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self { _held: Some(Box::new(held)) }
    }
}
