//! The largest classes of a row, by radix select.
//!
//! A class stands in an order of 32 bits, the largest logit first, and equal ones stand by id. A histogram of the highest
//! bits tells in which bin the last of the wanted ones lies, one of the next bits within that bin where in the bin, and
//! so on.

use super::kernel::{BROKEN, PADDING, RANK, UNITS};
use cubecl::prelude::*;

/// Bits of the order, or of an id, that one histogram tells apart.
const BITS: u32 = 11;
/// Bins of a histogram.
const BINS: usize = 1 << BITS;
/// Bins that one unit adds up.
const BINS_PER_UNIT: usize = BINS / UNITS;
/// More classes than two histograms tell apart.
pub(super) const MOST_CLASSES: usize = 1 << (2 * BITS);

/// Order and id of the last of the `count` largest among the first `classes` logits. Counts on the way which of them are
/// not finite, and what stands before the label.
#[cube]
pub(super) fn last_of_the_largest<F: Float>(
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
    clear(&bins);

    let gold_order = order_of(gold);
    let mut broken = 0u32;
    let mut rank = 0u32;
    let mut id = UNIT_POS;
    while id < classes {
        let z = f32::cast_from(logits[start + id as usize]);
        let order = order_of(z);
        if is_broken(z) {
            broken += 1;
        }
        if order < gold_order || (order == gold_order && id < gold_id) {
            rank += 1;
        }
        bins[(order >> 21u32) as usize].fetch_add(1u32);
        id += UNITS as u32;
    }
    counters[BROKEN].fetch_add(broken);
    counters[RANK].fetch_add(rank);
    find(&bins, &mut unit_sums, &mut found, count);
    let prefix = found[0];
    let left = found[1];

    clear(&bins);
    tally::<F>(logits, start, classes, prefix, &bins, 10u32, 11u32);
    find(&bins, &mut unit_sums, &mut found, left);
    let prefix = (prefix << 11u32) | found[0];
    let left = found[1];

    clear(&bins);
    tally::<F>(logits, start, classes, prefix, &bins, 0u32, 10u32);
    find(&bins, &mut unit_sums, &mut found, left);
    let threshold = (prefix << 10u32) | found[0];
    let left = found[1];

    // Of more equal ones than are wanted, those of the lowest ids. Every unit walks the same way, with nothing to
    // count where there is no choice: barriers allow no branches.
    let is_choice = left < found[2];
    let end = select(is_choice, classes, 0u32);
    let wanted = select(is_choice, left, 0u32);
    clear(&bins);
    tally_ids::<F>(logits, start, end, threshold, 0u32, &bins, BITS);
    find(&bins, &mut unit_sums, &mut found, wanted);
    let prefix = found[0];
    let left = found[1];

    clear(&bins);
    tally_ids::<F>(logits, start, end, threshold, prefix, &bins, 0u32);
    find(&bins, &mut unit_sums, &mut found, left);
    let last_id = (prefix << BITS) | found[0];
    (threshold, select(is_choice, last_id, 0xffff_ffffu32))
}

/// Counts what is not finite from `classes` on, and where the largest of it stands in the order.
#[cube]
pub(super) fn scan_padding<F: Float>(
    logits: &Tensor<F>,
    start: usize,
    classes: u32,
    vocab_size: u32,
    counters: &Shared<[Atomic<u32>]>,
) {
    let mut broken = 0u32;
    let mut largest = 0xffff_ffffu32;
    let mut id = classes + UNIT_POS;
    while id < vocab_size {
        let z = f32::cast_from(logits[start + id as usize]);
        if is_broken(z) {
            broken += 1;
        }
        largest = min(largest, order_of(z));
        id += UNITS as u32;
    }
    counters[BROKEN].fetch_add(broken);
    counters[PADDING].fetch_min(largest);
    sync_cube();
}

/// Is it a NaN or an infinity?
#[cube]
fn is_broken(z: f32) -> bool {
    (u32::reinterpret(z) & 0x7f80_0000u32) == 0x7f80_0000u32
}

/// 0 for the largest number.
#[cube]
pub(super) fn order_of(z: f32) -> u32 {
    let bits = u32::reinterpret(z);
    // -0 ties with 0.
    let bits = select(bits == 0x8000_0000u32, 0u32, bits);
    select(bits >> 31u32 == 1u32, bits, bits ^ 0x7fff_ffffu32)
}

/// The number at a place of the order.
#[cube]
pub(super) fn logit_at(order: u32) -> f32 {
    f32::reinterpret(select(order >> 31u32 == 1u32, order, order ^ 0x7fff_ffffu32))
}

#[cube]
fn clear(bins: &Shared<[Atomic<u32>]>) {
    let mut bin = UNIT_POS as usize;
    while bin < BINS {
        bins[bin].store(0u32);
        bin += UNITS;
    }
    sync_cube();
}

/// Counts the classes whose order begins with `prefix` by the `width` bits above the lowest `shift`.
#[cube]
fn tally<F: Float>(
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
        let order = order_of(f32::cast_from(logits[start + id as usize]));
        if order >> comptime!(shift + width) == prefix {
            bins[((order >> shift) & mask) as usize].fetch_add(1u32);
        }
        id += UNITS as u32;
    }
}

/// Counts the classes of one order whose id begins with `prefix` by the bits above the lowest `shift`.
#[cube]
fn tally_ids<F: Float>(
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
        let order = order_of(f32::cast_from(logits[start + id as usize]));
        if order == threshold && id >> comptime!(shift + BITS) == prefix {
            bins[((id >> shift) & mask) as usize].fetch_add(1u32);
        }
        id += UNITS as u32;
    }
}

/// Writes to `found` the bin in which the `wanted`-th of all lies, the how-manieth it is there, and how many lie there.
#[cube]
fn find(bins: &Shared<[Atomic<u32>]>, unit_sums: &mut Shared<[u32]>, found: &mut Shared<[u32]>, wanted: u32) {
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
