//! The kernel: one cube of units for each row. It uses no subgroup operations, because WGSL does not offer them
//! everywhere.

use super::largest::{descending_key, kth_largest, logit_of_key, scan_padding};
use super::layout::{BOUND, COUNTERS, GOLD, HEADER, NON_FINITE, PADDING, RANK, UNITS, WRITTEN};
use super::sums::{add_class, add_units, clear_sums};
use cubecl::prelude::*;

/// Writes the summary of each row. `ids` holds the label of each row, followed by the ids of the `always_kept` classes
/// that are kept in any case. The columns from `classes` on are padding; they take part in the sums and in nothing
/// else.
///
/// A summary consists of [`HEADER`] words, the ids of the `count` largest classes in any order, the bits of their
/// logits in the same order, the sums over all other columns, and the bits of the logits of the always-kept classes.
///
/// The sums are Σ e^((low + j · step) (z - bound)) for j = 0, 1, ..., `powers` - 1, and Σ e^(z - bound), where `bound`
/// is the word [`BOUND`]. They leave out the always-kept classes. Each sum is written as the bits of two f32 that add
/// up to it. `zero` must be 0, and the shader compiler must not know that it is.
#[cube(launch)]
pub(super) fn summarise_rows<F: Float, I: Int>(
    logits: &Tensor<F>,
    ids: &Tensor<I>,
    out: &mut Tensor<u32>,
    vocab_size: u32,
    classes: u32,
    count: u32,
    always_kept: u32,
    low: f32,
    step: f32,
    zero: u32,
    #[comptime] powers: usize,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= out.shape(0) {
        terminate!();
    }
    let start = row * vocab_size as usize;
    let counters = Shared::<[Atomic<u32>]>::new_slice(COUNTERS);
    if UNIT_POS < COUNTERS as u32 {
        counters[UNIT_POS as usize].store(select(UNIT_POS == PADDING as u32, 0xffff_ffffu32, 0u32));
    }
    let gold_id = u32::cast_from(ids[row]);
    let gold = f32::cast_from(logits[start + gold_id as usize]);
    let (threshold, last_id) = kth_largest::<F>(logits, start, classes, count, gold_id, gold, &counters);
    scan_padding::<F>(logits, start, classes, vocab_size, &counters);

    let bound = logit_of_key(min(threshold, counters[PADDING].load()));
    let base = row * out.shape(1);
    let pairs = base + HEADER;
    let mut sums = Array::<f32>::new(powers + 1);
    let mut compensations = Array::<f32>::new(powers + 1);
    clear_sums(&mut sums, powers);
    clear_sums(&mut compensations, powers);
    let mut id = UNIT_POS;
    while id < vocab_size {
        let z = f32::cast_from(logits[start + id as usize]);
        let key = descending_key(z);
        if id < classes && (key < threshold || (key == threshold && id <= last_id)) {
            let slot = counters[WRITTEN].fetch_add(1u32) as usize;
            out[pairs + slot] = id;
            out[pairs + count as usize + slot] = u32::reinterpret(z);
        } else {
            add_class(&mut sums, &mut compensations, 1.0f32, z - bound, low, step, zero, powers);
        }
        id += UNITS as u32;
    }

    let always_kept_words = pairs + 2 * (count as usize + powers + 1);
    if UNIT_POS == 0 {
        let mut i = 0u32;
        while i < always_kept {
            let id = u32::cast_from(ids[out.shape(0) + i as usize]);
            let z = f32::cast_from(logits[start + id as usize]);
            let key = descending_key(z);
            if key > threshold || (key == threshold && id > last_id) {
                // Subtracts exactly the same numbers that were added.
                add_class(&mut sums, &mut compensations, -1.0f32, z - bound, low, step, zero, powers);
            }
            out[always_kept_words + i as usize] = u32::reinterpret(z);
            i += 1;
        }
    }

    write_sums(out, pairs + 2 * count as usize, &sums, &compensations, zero, powers);
    if UNIT_POS == 0 {
        out[base + NON_FINITE] = counters[NON_FINITE].load();
        out[base + RANK] = counters[RANK].load();
        out[base + GOLD] = u32::reinterpret(gold);
        out[base + BOUND] = u32::reinterpret(bound);
    }
}

/// Adds up the sums of all units and writes them from `word` on.
#[cube]
fn write_sums(
    out: &mut Tensor<u32>,
    word: usize,
    sums: &Array<f32>,
    compensations: &Array<f32>,
    zero: u32,
    #[comptime] powers: usize,
) {
    let mut lanes = Shared::<[f32]>::new_slice(UNITS);
    let mut lane_compensations = Shared::<[f32]>::new_slice(UNITS);
    #[unroll]
    for j in 0..powers + 1 {
        add_units(&mut lanes, &mut lane_compensations, sums[j], compensations[j], zero);
        if UNIT_POS == 0 {
            out[word + 2 * j] = u32::reinterpret(lanes[0]);
            out[word + 2 * j + 1] = u32::reinterpret(lane_compensations[0]);
        }
    }
}
