//! The largest classes of a row, without sorting the row.

use super::lanes::{BLOCK, larger};

/// Groups of blocks for each wanted class: with two, a threshold lets 1.4 times the wanted number through.
const GROUPS_PER_CLASS: usize = 2;

/// The largest classes, largest first, ties to the lower id.
#[derive(Default)]
pub(super) struct TopClasses {
    /// Scratch: maxima of groups of blocks.
    group_max: Vec<f32>,
    /// [`key`]s, ascending.
    keys: Vec<u64>,
}

impl TopClasses {
    /// Finds the `count` largest of the row with these block maxima, or all where it has fewer.
    ///
    /// The count-th largest group maximum is reached by at least `count` classes (one in each of as many groups), so
    /// nothing below it is among the `count` largest, and few classes lie above it.
    pub(super) fn find(&mut self, logits: &[f32], block_max: &[f32], count: usize) {
        let threshold = self.threshold(block_max, count);
        self.keys.clear();
        for (block, (values, &max)) in logits.chunks(BLOCK).zip(block_max).enumerate() {
            if max >= threshold {
                let reach = values.iter().zip((block * BLOCK) as u32..).filter(|(z, _)| **z >= threshold);
                self.keys.extend(reach.map(|(&z, id)| key(z, id)));
            }
        }
        if count < self.keys.len() {
            self.keys.select_nth_unstable(count);
            self.keys.truncate(count);
        }
        self.keys.sort_unstable();
    }

    /// What every one of the `count` largest reaches.
    fn threshold(&mut self, block_max: &[f32], count: usize) -> f32 {
        let stride = (block_max.len() / (GROUPS_PER_CLASS * count.max(1))).max(1);
        self.group_max.clear();
        self.group_max.extend(block_max.chunks(stride).map(|group| group.iter().copied().fold(f32::MIN, larger)));
        if count == 0 || self.group_max.len() < count {
            return f32::MIN;
        }
        *self.group_max.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// Takes the largest classes of a row from elsewhere, in any order.
    pub(super) fn set(&mut self, classes: impl Iterator<Item = (u32, f32)>) {
        self.keys.clear();
        self.keys.extend(classes.map(|(id, z)| key(z, id)));
        self.keys.sort_unstable();
    }

    /// Their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|&key| key as u32)
    }

    /// Their ids and logits.
    pub(super) fn classes(&self) -> impl Iterator<Item = (u32, f32)> + Clone {
        self.keys.iter().map(|&key| (key as u32, logit(key)))
    }
}

/// Orders classes by logit, largest first, and ties by id.
fn key(z: f32, id: u32) -> u64 {
    // -0 ties with 0.
    let bits = (z + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    u64::from(!ascending) << 32 | u64::from(id)
}

/// The logit of a [`key`].
fn logit(key: u64) -> f32 {
    let ascending = !(key >> 32) as u32;
    f32::from_bits(if ascending >> 31 == 1 { ascending & 0x7fff_ffff } else { !ascending })
}
