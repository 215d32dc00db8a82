//! Memory for logits, used again and again: a fresh one of tens of megabytes has to be cleared by the system each time.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that is not in use.
#[derive(Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Vec<f32>>>>);

impl BufferPool {
    /// Some of it, whatever it holds; empty where there is none.
    pub(super) fn take(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Numbers whose memory comes back when they are dropped.
    pub(super) fn recycle_on_drop(&self, numbers: Vec<f32>) -> HostLogits {
        HostLogits { numbers, owner: Some(self.clone()) }
    }
}

/// Logits in memory, row-major.
pub struct HostLogits {
    numbers: Vec<f32>,
    owner: Option<BufferPool>,
}

impl From<Vec<f32>> for HostLogits {
    fn from(numbers: Vec<f32>) -> Self {
        Self { numbers, owner: None }
    }
}

impl Deref for HostLogits {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers
    }
}

impl Drop for HostLogits {
    fn drop(&mut self) {
        if let Some(BufferPool(owner)) = &self.owner {
            owner.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.numbers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_lent_again() {
        let spare = BufferPool::default();
        assert!(spare.take().is_empty());
        let lent = spare.recycle_on_drop(vec![1.0, 2.0]);
        let place = lent.as_ptr();
        assert!(lent[..] == [1.0, 2.0] && spare.take().is_empty(), "not while it is in use");
        drop(lent);
        let again = spare.take();
        assert_eq!(again.as_ptr(), place);
        drop(HostLogits::from(vec![3.0]));
        assert!(spare.take().is_empty());
    }
}
