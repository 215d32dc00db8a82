//! The most recently used of many things.

use std::collections::HashMap;
use std::sync::Arc;

/// Things by their number, with the time of their last use.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    items: HashMap<usize, (u64, Arc<T>)>,
    clock: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { items: HashMap::new(), clock: 0 }
    }
}

impl<T> Recent<T> {
    /// Returns a thing that is here, which is then the most recently used.
    pub(crate) fn get(&mut self, number: usize) -> Option<Arc<T>> {
        self.clock += 1;
        let (used, item) = self.items.get_mut(&number)?;
        *used = self.clock;
        Some(item.clone())
    }

    /// Adds a thing as the most recently used.
    pub(crate) fn put(&mut self, number: usize, item: Arc<T>) {
        self.clock += 1;
        self.items.insert(number, (self.clock, item));
    }

    /// Removes the thing that was not used for the longest time, with its number.
    pub(crate) fn drop_oldest(&mut self) -> Option<(usize, Arc<T>)> {
        let oldest = self.items.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| *number)?;
        self.items.remove(&oldest).map(|(_, item)| (oldest, item))
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}
