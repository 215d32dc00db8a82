//! Finds the largest classes of a row by radix select.
//!
//! Each class has a key of 32 bits that is smaller for a larger logit; equal keys are ordered by id. A histogram of the
//! highest bits shows which bin contains the last of the requested classes, a histogram of the next bits shows its
//! position within that bin, and so on.

use super::layout::{NON_FINITE, PADDING, RANK, UNITS};
use cubecl::prelude::*;

/// Bits of a key or an id that one histogram distinguishes.
const BITS: u32 = 11;
/// Bins of a histogram.
const BINS: usize = 1 << BITS;
/// Bins that one unit adds up.
const BINS_PER_UNIT: usize = BINS / UNITS;
/// The most classes whose ids two histograms can distinguish.
pub(super) const MAX_CLASSES: usize = 1 << (2 * BITS);

/// The key and the id of the last of the `count` largest among the first `classes` logits. If all classes with that key
/// are among the largest, the id is u32::MAX. Also counts the logits that are not finite and the classes that precede
/// the label.
#[cube]
pub(super) fn kth_largest<F: Float>(
    logits: &Tensor<F>,
    start: usize,
    classes: u32,
    count: u32,
    gold_id: u32,
    gold: f32,
    counters: &Shared<[Atomic<u32>]>,
) -> (u32, u32) {
    let bins = Shared::<[Atomic<u32>]>::new_slice(BINS);
    let mut unit_sums = Shared::<[u32]>::new_slice(UNITS);
    let mut found = Shared::<[u32]>::new_slice(3usize);
    clear_bins(&bins);

    let gold_key = descending_key(gold);
    let mut non_finite = 0u32;
    let mut rank = 0u32;
    let mut id = UNIT_POS;
    while id < classes {
        let z = f32::cast_from(logits[start + id as usize]);
        let key = descending_key(z);
        if is_non_finite(z) {
            non_finite += 1;
        }
        if key < gold_key || (key == gold_key && id < gold_id) {
            rank += 1;
        }
        bins[(key >> 21u32) as usize].fetch_add(1u32);
        id += UNITS as u32;
    }
    counters[NON_FINITE].fetch_add(non_finite);
    counters[RANK].fetch_add(rank);
    find_bin(&bins, &mut unit_sums, &mut found, count);
    let prefix = found[0];
    let left = found[1];

    clear_bins(&bins);
    count_bins::<F>(logits, start, classes, prefix, &bins, 10u32, 11u32);
    find_bin(&bins, &mut unit_sums, &mut found, left);
    let prefix = (prefix << 11u32) | found[0];
    let left = found[1];

    clear_bins(&bins);
    count_bins::<F>(logits, start, classes, prefix, &bins, 0u32, 10u32);
    find_bin(&bins, &mut unit_sums, &mut found, left);
    let threshold = (prefix << 10u32) | found[0];
    let left = found[1];

    // If more classes have this key than are requested, those with the lowest ids are taken. Barriers must not be
    // inside branches, so every unit takes the same path; it has nothing to count if there is no choice to make.
    let is_choice = left < found[2];
    let end = select(is_choice, classes, 0u32);
    let wanted = select(is_choice, left, 0u32);
    clear_bins(&bins);
    count_id_bins::<F>(logits, start, end, threshold, 0u32, &bins, BITS);
    find_bin(&bins, &mut unit_sums, &mut found, wanted);
    let prefix = found[0];
    let left = found[1];

    clear_bins(&bins);
    count_id_bins::<F>(logits, start, end, threshold, prefix, &bins, 0u32);
    find_bin(&bins, &mut unit_sums, &mut found, left);
    let last_id = (prefix << BITS) | found[0];
    (threshold, select(is_choice, last_id, 0xffff_ffffu32))
}

/// Counts the logits from `classes` on that are not finite, and finds the smallest key among them.
#[cube]
pub(super) fn scan_padding<F: Float>(
    logits: &Tensor<F>,
    start: usize,
    classes: u32,
    vocab_size: u32,
    counters: &Shared<[Atomic<u32>]>,
) {
    let mut non_finite = 0u32;
    let mut largest = 0xffff_ffffu32;
    let mut id = classes + UNIT_POS;
    while id < vocab_size {
        let z = f32::cast_from(logits[start + id as usize]);
        if is_non_finite(z) {
            non_finite += 1;
        }
        largest = min(largest, descending_key(z));
        id += UNITS as u32;
    }
    counters[NON_FINITE].fetch_add(non_finite);
    counters[PADDING].fetch_min(largest);
    sync_cube();
}

/// Is the number a NaN or an infinity?
#[cube]
fn is_non_finite(z: f32) -> bool {
    (u32::reinterpret(z) & 0x7f80_0000u32) == 0x7f80_0000u32
}

/// The key of a logit. The largest f32 has the smallest key.
#[cube]
pub(super) fn descending_key(z: f32) -> u32 {
    let bits = u32::reinterpret(z);
    // -0 ties with 0.
    let bits = select(bits == 0x8000_0000u32, 0u32, bits);
    select(bits >> 31u32 == 1u32, bits, bits ^ 0x7fff_ffffu32)
}

/// The logit with this key.
#[cube]
pub(super) fn logit_of_key(key: u32) -> f32 {
    f32::reinterpret(select(key >> 31u32 == 1u32, key, key ^ 0x7fff_ffffu32))
}

#[cube]
fn clear_bins(bins: &Shared<[Atomic<u32>]>) {
    let mut bin = UNIT_POS as usize;
    while bin < BINS {
        bins[bin].store(0u32);
        bin += UNITS;
    }
    sync_cube();
}

/// Counts the classes whose key starts with `prefix`, in bins by the `width` bits above the lowest `shift` bits.
#[cube]
fn count_bins<F: Float>(
    logits: &Tensor<F>,
    start: usize,
    end: u32,
    prefix: u32,
    bins: &Shared<[Atomic<u32>]>,
    #[comptime] shift: u32,
    #[comptime] width: u32,
) {
    let mask = comptime!((1u32 << width) - 1);
    let mut id = UNIT_POS;
    while id < end {
        let key = descending_key(f32::cast_from(logits[start + id as usize]));
        if key >> comptime!(shift + width) == prefix {
            bins[((key >> shift) & mask) as usize].fetch_add(1u32);
        }
        id += UNITS as u32;
    }
}

/// Counts the classes with key `threshold` whose id starts with `prefix`, in bins by the bits above the lowest `shift`
/// bits.
#[cube]
fn count_id_bins<F: Float>(
    logits: &Tensor<F>,
    start: usize,
    end: u32,
    threshold: u32,
    prefix: u32,
    bins: &Shared<[Atomic<u32>]>,
    #[comptime] shift: u32,
) {
    let mask = comptime!((1u32 << BITS) - 1);
    let mut id = UNIT_POS;
    while id < end {
        let key = descending_key(f32::cast_from(logits[start + id as usize]));
        if key == threshold && id >> comptime!(shift + BITS) == prefix {
            bins[((id >> shift) & mask) as usize].fetch_add(1u32);
        }
        id += UNITS as u32;
    }
}

/// Finds the bin that contains the `wanted`-th class (counted from 1). Writes three numbers to `found`: the bin, the
/// position of that class within the bin (counted from 1), and the number of classes in the bin.
#[cube]
fn find_bin(bins: &Shared<[Atomic<u32>]>, unit_sums: &mut Shared<[u32]>, found: &mut Shared<[u32]>, wanted: u32) {
    sync_cube();
    let first = UNIT_POS as usize * BINS_PER_UNIT;
    let mut sum = 0u32;
    #[unroll]
    for i in 0..BINS_PER_UNIT {
        sum += bins[first + i].load();
    }
    unit_sums[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS == 0 {
        let mut left = wanted;
        let mut unit = 0usize;
        while left > unit_sums[unit] {
            left -= unit_sums[unit];
            unit += 1;
        }
        let mut bin = unit * BINS_PER_UNIT;
        let mut inside = bins[bin].load();
        while left > inside {
            left -= inside;
            bin += 1;
            inside = bins[bin].load();
        }
        found[0] = bin as u32;
        found[1] = left;
        found[2] = inside;
    }
    sync_cube();
}
