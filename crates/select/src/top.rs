//! Finds the largest classes of a row without sorting it.

#[cfg(test)]
mod tests;

use crate::lanes::LANES;
use crate::scan::{STRIP, strip_at};
use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Groups for each requested class. With four, about 1.2 times the requested number of classes reach the threshold.
const GROUPS_PER_CLASS: usize = 4;
/// Up to this many keys are sorted by rank: for each key, the smaller ones are counted. This takes more comparisons,
/// but they run in vector registers and need no branches.
const MAX_RANK_SORT: usize = 192;

/// The largest classes of a row, largest first, with ties in the order of their ids.
#[derive(Default)]
pub(crate) struct TopClasses {
    /// Scratch: the maximum of each group.
    group_max: Vec<f32>,
    /// Scratch: lanes of strips that contain at least one candidate.
    lanes: Vec<u32>,
    /// Scratch: the unsorted keys.
    scratch: Vec<u64>,
    /// [`ranking_key`]s, ascending.
    keys: Vec<u64>,
}

impl TopClasses {
    /// Finds the `count` largest classes of the row, or all if it has fewer. `maxima` are those of
    /// [`crate::scan::scan`].
    ///
    /// If `count` groups have a maximum that reaches the threshold, at least `count` classes reach it (one in each of
    /// those groups). No class below the threshold can then be among the `count` largest, and few classes are above it.
    pub(crate) fn find(&mut self, logits: &[f32], maxima: &[f32], count: usize) {
        self.fill_groups(maxima, count);
        Arch::new().dispatch(Find { logits, maxima, count, top: self });
    }

    /// A group is one lane of several neighbouring strips, so that 16 groups are compared at once.
    fn fill_groups(&mut self, maxima: &[f32], count: usize) {
        let strips = maxima.len() / LANES / (GROUPS_PER_CLASS * count).div_ceil(LANES).max(1);
        self.group_max.clear();
        for strips in maxima.chunks(LANES * strips.max(1)) {
            let mut lanes = [f32::MIN; LANES];
            for maxima in strips.as_chunks::<LANES>().0 {
                lanes.iter_mut().zip(maxima).for_each(|(max, &z)| *max = if z > *max { z } else { *max });
            }
            self.group_max.extend(lanes);
        }
    }

    /// Sets the largest classes from ids and logits found elsewhere, in any order.
    pub(crate) fn set(&mut self, classes: impl Iterator<Item = (u32, f32)>) {
        self.keys.clear();
        self.keys.extend(classes.map(|(id, z)| ranking_key(z, id)));
        self.keys.sort_unstable();
    }

    /// Ids of the classes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|&key| key as u32)
    }

    /// Ids and logits of the classes.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (u32, f32)> + Clone {
        self.keys.iter().map(|&key| (key as u32, logit_of_key(key)))
    }
}

/// The part of [`TopClasses::find`] after the groups are filled.
struct Find<'a> {
    logits: &'a [f32],
    maxima: &'a [f32],
    count: usize,
    top: &'a mut TopClasses,
}

impl WithSimd for Find<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { logits, maxima, count, top } = self;
        let threshold = threshold(s, &top.group_max, count);
        let lanes = list_lanes(s, maxima, threshold, &mut top.lanes);
        collect(s, logits, &top.lanes[..lanes], threshold, &mut top.keys);
        if top.keys.len() > MAX_RANK_SORT && count < top.keys.len() {
            top.keys.select_nth_unstable(count);
            top.keys.truncate(count);
        }
        sort(&mut top.keys, &mut top.scratch);
        top.keys.truncate(count);
    }
}

/// Sorts keys that are all different, ascending.
pub(crate) fn sort(keys: &mut [u64], scratch: &mut Vec<u64>) {
    match keys.len() > MAX_RANK_SORT {
        true => keys.sort_unstable(),
        false => Arch::new().dispatch(Sort { keys, scratch }),
    }
}

/// [`sort`] for at most [`MAX_RANK_SORT`] keys.
struct Sort<'a> {
    keys: &'a mut [u64],
    scratch: &'a mut Vec<u64>,
}

impl WithSimd for Sort<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { keys, scratch } = self;
        scratch.clear();
        scratch.extend_from_slice(keys);
        // The padding sorts after all keys, so that every register is full.
        scratch.resize(keys.len().next_multiple_of(LANES), u64::MAX);
        for mine in scratch.as_chunks::<LANES>().0 {
            let mut places = [0u64; LANES];
            for &other in &*scratch {
                for (place, &key) in places.iter_mut().zip(mine) {
                    *place += u64::from(other < key);
                }
            }
            for (&place, &key) in places.iter().zip(mine) {
                if let Some(slot) = keys.get_mut(place as usize) {
                    *slot = key;
                }
            }
        }
    }
}

/// A threshold that at least `count` of the numbers reach: exactly `count`, or as few more as ties allow. It is
/// f32::MIN if there are fewer numbers.
#[inline(always)]
fn threshold<S: Simd>(s: S, numbers: &[f32], count: usize) -> f32 {
    if count == 0 || numbers.len() < count {
        return f32::MIN;
    }
    let (registers, one, none) = (S::as_simd_f32s(numbers).0, s.splat_u32s(1), s.splat_u32s(0));
    let extreme = |from, of: fn(S, S::f32s, S::f32s) -> S::f32s| registers.iter().fold(from, |a, &b| of(s, a, b));
    let largest = s.reduce_max_f32s(extreme(s.splat_f32s(f32::MIN), |s, a, b| s.max_f32s(a, b)));
    let least = s.reduce_min_f32s(extreme(s.splat_f32s(f32::MAX), |s, a, b| s.min_f32s(a, b)));
    // Binary search over f32 in numerical order: at least `count` numbers reach `low`, fewer reach `high`.
    let (mut low, mut high) = (ascending(least), ascending(largest) + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let (bound, mut counts) = (s.splat_f32s(of_ascending(middle)), none);
        for &z in registers {
            counts = s.add_u32s(counts, s.select_u32s(s.greater_than_or_equal_f32s(z, bound), one, none));
        }
        let reach = bytemuck::cast_slice::<S::u32s, u32>(std::slice::from_ref(&counts)).iter().sum::<u32>() as usize;
        match reach >= count {
            true => low = middle,
            false => high = middle,
        }
        if reach == count {
            break;
        }
    }
    of_ascending(low)
}

/// Writes the indices of the lanes whose maximum reaches the threshold to the front of `lanes`, numbered through all
/// strips, and returns how many there are.
#[inline(always)]
fn list_lanes<S: Simd>(s: S, maxima: &[f32], threshold: f32, lanes: &mut Vec<u32>) -> usize {
    lanes.resize(maxima.len() + LANES, 0);
    let mut count = 0;
    for (strip, maxima) in maxima.as_chunks::<LANES>().0.iter().enumerate() {
        let mut bits = reaching(s, maxima, threshold);
        // Most strips have at most two such lanes. Two are written unconditionally, so that no branch can be
        // mispredicted.
        for _ in 0..2 {
            lanes[count] = strip as u32 * LANES as u32 + bits.trailing_zeros();
            count += usize::from(bits != 0);
            bits &= bits.wrapping_sub(1);
        }
        for lane in ones(bits) {
            lanes[count] = (strip * LANES + lane) as u32;
            count += 1;
        }
    }
    count
}

/// Fills `keys` with the keys of all classes in these lanes that reach the threshold.
#[inline(always)]
fn collect<S: Simd>(s: S, logits: &[f32], lanes: &[u32], threshold: f32, keys: &mut Vec<u64>) {
    keys.clear();
    let mut padded = [f32::MIN; STRIP];
    for &lane in lanes {
        let (strip, lane) = (lane as usize / LANES, lane as usize % LANES);
        let (columns, _) = strip_at(logits, strip, &mut padded).as_chunks::<LANES>();
        for column in ones(reaching(s, &std::array::from_fn(|i| columns[i][lane]), threshold)) {
            let id = strip * STRIP + column * LANES + lane;
            if id < logits.len() {
                keys.push(ranking_key(columns[column][lane], id as u32));
            }
        }
    }
}

/// A bit mask of the numbers that reach the threshold. All numbers are compared before any result is used, because a
/// branch for each one would often be mispredicted.
#[inline(always)]
fn reaching<S: Simd>(s: S, numbers: &[f32; LANES], threshold: f32) -> u32 {
    let bound = s.splat_f32s(threshold);
    let masks = S::as_simd_f32s(numbers).0.iter().map(|&z| s.greater_than_or_equal_f32s(z, bound));
    masks.enumerate().fold(0, |bits, (i, mask)| bits | bits_of::<S>(mask) << (i * S::F32_LANES))
}

/// A bit mask with one bit for each lane of a vector mask.
#[inline(always)]
fn bits_of<S: Simd>(mask: S::m32s) -> u32 {
    match size_of::<S::m32s>() {
        // The mask is a mask register, as in AVX-512.
        1 => bytemuck::cast::<_, u8>(mask).into(),
        2 => bytemuck::cast::<_, u16>(mask).into(),
        _ => {
            let lanes = bytemuck::cast_slice::<S::m32s, u32>(std::slice::from_ref(&mask));
            lanes.iter().enumerate().fold(0, |bits, (i, &lane)| bits | (lane & 1) << i)
        }
    }
}

/// The indices of the bits that are set, ascending.
#[inline(always)]
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// A key that sorts classes by logit, largest first, and ties by id.
#[inline(always)]
fn ranking_key(z: f32, id: u32) -> u64 {
    // Adding 0 turns -0 into 0, so that both tie.
    u64::from(!ascending(z + 0.0)) << 32 | u64::from(id)
}

/// The logit of a [`ranking_key`].
fn logit_of_key(key: u64) -> f32 {
    of_ascending(!(key >> 32) as u32)
}

/// Maps a float to an integer such that the integers are ordered like the floats.
#[inline(always)]
fn ascending(z: f32) -> u32 {
    let bits = z.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The inverse of [`ascending`].
#[inline(always)]
fn of_ascending(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order & 0x7fff_ffff } else { !order })
}
