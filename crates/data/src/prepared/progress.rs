//! How far a preparation is, in bytes of the source files as they are stored.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

/// A part that was just made, and how far the preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartMade<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number of tokens.
    pub tokens: u64,
    /// Bytes of the source files that this process has read so far.
    pub bytes_read: u64,
    /// Bytes that are left. Files of which all parts existed already count neither here nor there.
    pub bytes_left: u64,
}

/// Counts the bytes of groups of files.
pub(super) struct Progress {
    read: Cell<u64>,
    left: Cell<u64>,
    /// Groups that are counted already.
    groups: RefCell<HashSet<usize>>,
}

impl Progress {
    pub(super) fn new(bytes: u64) -> Self {
        Self { read: Cell::new(0), left: Cell::new(bytes), groups: RefCell::default() }
    }

    /// Counts a group that this process has read.
    pub(super) fn count_read(&self, group: usize, bytes: u64) {
        if self.count_done(group, bytes) {
            self.read.set(self.read.get() + bytes);
        }
    }

    /// Counts a group of which all parts exist. Returns whether it was not counted before.
    pub(super) fn count_done(&self, group: usize, bytes: u64) -> bool {
        let is_new = self.groups.borrow_mut().insert(group);
        if is_new {
            self.left.set(self.left.get().saturating_sub(bytes));
        }
        is_new
    }

    /// What to report of a part that was made after `bytes` of its group.
    pub(super) fn after_part<'a>(&self, name: &'a str, tokens: u64, bytes: u64) -> PartMade<'a> {
        PartMade {
            name,
            tokens,
            bytes_read: self.read.get() + bytes,
            bytes_left: self.left.get().saturating_sub(bytes),
        }
    }
}
