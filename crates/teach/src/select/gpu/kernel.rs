//! The kernel: one cube of units for each row. Nothing in it needs operations of subgroups, which WGSL has not
//! everywhere.

use super::largest::{last_of_the_largest, logit_at, order_of};
use super::sums::{add_class, add_units, clear_sums};
use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: usize = 256;

/// Words before the pairs.
pub(super) const HEAD: usize = 3;
/// How many logits are no finite numbers.
pub(super) const BROKEN: usize = 0;
/// How many classes stand before the label.
pub(super) const RANK: usize = 1;
/// Bits of the label's logit.
pub(super) const GOLD: usize = 2;
/// Beside the first two counters: how many pairs were written.
const WRITTEN: usize = 2;

/// Writes of each row [`HEAD`] words, the ids of the `count` largest classes in any order, the bits of their logits in
/// the same order, sums over all other classes, and the bits of the logits of the `fixed` classes that are kept whatever
/// they are. `ids` holds the label of each row, and then the fixed classes.
///
/// The sums are of e^((low + j · step) (z - last)) for each j below `points`, and of e^(z - last), `last` being the least
/// of the largest. Each is the bits of two numbers that add up to it. Fixed classes are no part of them. `zero` is 0,
/// which the compiler must not know.
#[cube(launch)]
pub(super) fn digest_rows<F: Float, I: Int>(
    logits: &Tensor<F>,
    ids: &Tensor<I>,
    out: &mut Tensor<u32>,
    vocab_size: u32,
    count: u32,
    fixed: u32,
    low: f32,
    step: f32,
    zero: u32,
    #[comptime] points: usize,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= out.shape(0) {
        terminate!();
    }
    let start = row * vocab_size as usize;
    let counters = Shared::<[Atomic<u32>]>::new_slice(3usize);
    if UNIT_POS < 3 {
        counters[UNIT_POS as usize].store(0u32);
    }
    let gold_id = u32::cast_from(ids[row]);
    let gold = f32::cast_from(logits[start + gold_id as usize]);
    let (threshold, last_id) = last_of_the_largest::<F>(logits, start, vocab_size, count, gold_id, gold, &counters);

    let last = logit_at(threshold);
    let base = row * out.shape(1);
    let pairs = base + HEAD;
    let mut sums = Array::<f32>::new(points + 1);
    let mut missing = Array::<f32>::new(points + 1);
    clear_sums(&mut sums, points);
    clear_sums(&mut missing, points);
    let mut id = UNIT_POS;
    while id < vocab_size {
        let z = f32::cast_from(logits[start + id as usize]);
        let order = order_of(z);
        if order < threshold || (order == threshold && id <= last_id) {
            let slot = counters[WRITTEN].fetch_add(1u32) as usize;
            out[pairs + slot] = id;
            out[pairs + count as usize + slot] = u32::reinterpret(z);
        } else {
            add_class(&mut sums, &mut missing, 1.0f32, z - last, low, step, zero, points);
        }
        id += UNITS as u32;
    }

    let sent = pairs + 2 * (count as usize + points + 1);
    if UNIT_POS == 0 {
        let mut i = 0u32;
        while i < fixed {
            let id = u32::cast_from(ids[out.shape(0) + i as usize]);
            let z = f32::cast_from(logits[start + id as usize]);
            let order = order_of(z);
            if order > threshold || (order == threshold && id > last_id) {
                // Takes away the very bits that were added.
                add_class(&mut sums, &mut missing, -1.0f32, z - last, low, step, zero, points);
            }
            out[sent + i as usize] = u32::reinterpret(z);
            i += 1;
        }
    }

    send_sums(out, pairs + 2 * count as usize, &sums, &missing, zero, points);
    if UNIT_POS == 0 {
        out[base + BROKEN] = counters[BROKEN].load();
        out[base + RANK] = counters[RANK].load();
        out[base + GOLD] = u32::reinterpret(gold);
    }
}

/// Adds up the sums of all units and writes them from `word` on.
#[cube]
fn send_sums(
    out: &mut Tensor<u32>,
    word: usize,
    sums: &Array<f32>,
    missing: &Array<f32>,
    zero: u32,
    #[comptime] points: usize,
) {
    let mut lanes = Shared::<[f32]>::new_slice(UNITS);
    let mut lanes_missing = Shared::<[f32]>::new_slice(UNITS);
    #[unroll]
    for j in 0..points + 1 {
        add_units(&mut lanes, &mut lanes_missing, sums[j], missing[j], zero);
        if UNIT_POS == 0 {
            out[word + 2 * j] = u32::reinterpret(lanes[0]);
            out[word + 2 * j + 1] = u32::reinterpret(lanes_missing[0]);
        }
    }
}
