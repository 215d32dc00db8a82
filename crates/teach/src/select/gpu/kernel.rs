//! The kernel: one cube of units for each row. Nothing in it needs operations of subgroups, which WGSL has not
//! everywhere.

use super::largest::{last_of_the_largest, logit_at, order_of, scan_padding};
use super::sums::{add_class, add_units, clear_sums};
use cubecl::prelude::*;

/// Units of a cube.
pub(super) const UNITS: usize = 256;

/// Words before the pairs.
pub(super) const HEAD: usize = 4;
/// How many logits are no finite numbers.
pub(super) const BROKEN: usize = 0;
/// How many classes stand before the label.
pub(super) const RANK: usize = 1;
/// Bits of the label's logit.
pub(super) const GOLD: usize = 2;
/// Bits of a logit that nothing in the sums stands above: that of the last of the largest classes, or the padding's largest
/// where that is larger.
pub(super) const BAR: usize = 3;
/// Beside the first two counters: how many pairs were written.
const WRITTEN: usize = 2;
/// The last one: where the padding's largest logit stands in the order.
pub(super) const PADDING: usize = 3;
const COUNTERS: usize = 4;

/// Writes of each row [`HEAD`] words, the ids of the `count` largest classes in any order, the bits of their logits in
/// the same order, sums over all else, and the bits of the logits of the `fixed` classes that are kept whatever they are.
/// `ids` holds the label of each row, and then the fixed classes. What stands in a row behind its `classes` is padding: in
/// the sums, and nowhere else.
///
/// The sums are of e^((low + j · step) (z - bar)) for each j below `points`, and of e^(z - bar), the bar being that of
/// [`BAR`]. Each is the bits of two numbers that add up to it. Fixed classes are no part of them. `zero` is 0, which the
/// compiler must not know.
#[cube(launch)]
pub(super) fn digest_rows<F: Float, I: Int>(
    logits: &Tensor<F>,
    ids: &Tensor<I>,
    out: &mut Tensor<u32>,
    vocab_size: u32,
    classes: u32,
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
    let counters = Shared::<[Atomic<u32>]>::new_slice(COUNTERS);
    if UNIT_POS < COUNTERS as u32 {
        counters[UNIT_POS as usize].store(select(UNIT_POS == PADDING as u32, 0xffff_ffffu32, 0u32));
    }
    let gold_id = u32::cast_from(ids[row]);
    let gold = f32::cast_from(logits[start + gold_id as usize]);
    let (threshold, last_id) = last_of_the_largest::<F>(logits, start, classes, count, gold_id, gold, &counters);
    scan_padding::<F>(logits, start, classes, vocab_size, &counters);

    let bar = logit_at(min(threshold, counters[PADDING].load()));
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
        if id < classes && (order < threshold || (order == threshold && id <= last_id)) {
            let slot = counters[WRITTEN].fetch_add(1u32) as usize;
            out[pairs + slot] = id;
            out[pairs + count as usize + slot] = u32::reinterpret(z);
        } else {
            add_class(&mut sums, &mut missing, 1.0f32, z - bar, low, step, zero, points);
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
                add_class(&mut sums, &mut missing, -1.0f32, z - bar, low, step, zero, points);
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
        out[base + BAR] = u32::reinterpret(bar);
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
