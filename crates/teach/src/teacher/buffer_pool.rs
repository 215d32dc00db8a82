//! Reuses the memory of logits, because the operating system has to clear each new allocation of tens of megabytes.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are not in use.
#[derive(Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Vec<f32>>>>);

impl BufferPool {
    /// A buffer with arbitrary contents, or an empty one if none is available.
    pub(super) fn take(&self) -> Vec<f32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Wraps numbers whose memory returns to the pool when they are dropped.
    pub(super) fn recycle_on_drop(&self, numbers: Vec<f32>) -> HostLogits {
        HostLogits { numbers, pool: Some(self.clone()) }
    }
}

/// Logits in memory, row-major.
pub struct HostLogits {
    numbers: Vec<f32>,
    pool: Option<BufferPool>,
}

impl From<Vec<f32>> for HostLogits {
    fn from(numbers: Vec<f32>) -> Self {
        Self { numbers, pool: None }
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
        if let Some(BufferPool(pool)) = &self.pool {
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.numbers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_lent_again() {
        let pool = BufferPool::default();
        assert!(pool.take().is_empty());
        let lent = pool.recycle_on_drop(vec![1.0, 2.0]);
        let address = lent.as_ptr();
        assert!(lent[..] == [1.0, 2.0] && pool.take().is_empty(), "not while it is in use");
        drop(lent);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);
        drop(HostLogits::from(vec![3.0]));
        assert!(pool.take().is_empty());
    }
}
