//! The largest classes of a row, without sorting the row.

use super::lanes::LANES;
use super::scan::STRIP;

/// Groups for each wanted class: with two, a threshold lets 1.4 times the wanted number through.
const GROUPS_PER_CLASS: usize = 2;

/// The largest classes, largest first, ties to the lower id.
#[derive(Default)]
pub(super) struct TopClasses {
    /// Scratch: maxima of groups.
    group_max: Vec<f32>,
    /// [`key`]s, ascending.
    keys: Vec<u64>,
}

impl TopClasses {
    /// Finds the `count` largest of the row with these [`super::scan::scan`] maxima, or all where it has fewer.
    ///
    /// The count-th largest group maximum is reached by at least `count` classes (one in each of as many groups), so
    /// nothing below it is among the `count` largest, and few classes lie above it.
    pub(super) fn find(&mut self, logits: &[f32], maxima: &[f32], count: usize) {
        let threshold = self.threshold(maxima, count);
        self.keys.clear();
        for (strip, maxima) in maxima.as_chunks::<LANES>().0.iter().enumerate() {
            let first = strip * STRIP;
            let columns = &logits[first..logits.len().min(first + STRIP)];
            for lane in ones(maxima.iter().map(|max| *max >= threshold)) {
                let column = |i: usize| first + i * LANES + lane;
                let in_lane = columns.iter().skip(lane).step_by(LANES);
                for i in ones(in_lane.map(|z| *z >= threshold)) {
                    self.keys.push(key(logits[column(i)], column(i) as u32));
                }
            }
        }
        if count < self.keys.len() {
            self.keys.select_nth_unstable(count);
            self.keys.truncate(count);
        }
        self.keys.sort_unstable();
    }

    /// What every one of the `count` largest reaches.
    fn threshold(&mut self, maxima: &[f32], count: usize) -> f32 {
        // A group is a lane of some neighbouring strips, so that 16 of them are compared at once.
        let strips = maxima.len() / LANES / (GROUPS_PER_CLASS * count).div_ceil(LANES).max(1);
        self.group_max.clear();
        for strips in maxima.chunks(LANES * strips.max(1)) {
            let mut lanes = [f32::MIN; LANES];
            for maxima in strips.as_chunks::<LANES>().0 {
                lanes.iter_mut().zip(maxima).for_each(|(max, &z)| *max = if z > *max { z } else { *max });
            }
            self.group_max.extend(lanes);
        }
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

/// The places of what is true among a few. All are looked at before any is told, for a branch at each would be guessed
/// wrong as often as one is true.
#[inline(always)]
fn ones(are: impl Iterator<Item = bool>) -> impl Iterator<Item = usize> {
    let mut bits = are.enumerate().fold(0u32, |bits, (i, is)| bits | u32::from(is) << i);
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
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
