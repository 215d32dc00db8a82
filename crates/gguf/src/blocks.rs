//! The values of one block of each type: scale times integer, plus or minus a minimum.
//!
//! In all types the low halves of the bytes come before the high ones.

use half::{bf16 as Bf16, f16 as F16};

/// The two bytes at `at` as half precision.
fn half(block: &[u8], at: usize) -> f32 {
    F16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low halves of the bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

pub(crate) fn f32(block: &[u8], out: &mut Vec<f32>) {
    out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
}

pub(crate) fn f16(block: &[u8], out: &mut Vec<f32>) {
    out.push(half(block, 0));
}

pub(crate) fn bf16(block: &[u8], out: &mut Vec<f32>) {
    out.push(Bf16::from_le_bytes([block[0], block[1]]).to_f32());
}

pub(crate) fn q4_0(block: &[u8], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    out.extend(nibbles(&block[2..]).map(|q| scale * (f32::from(q) - 8.0)));
}

pub(crate) fn q4_1(block: &[u8], out: &mut Vec<f32>) {
    let (scale, least) = (half(block, 0), half(block, 2));
    out.extend(nibbles(&block[4..]).map(|q| scale * f32::from(q) + least));
}

/// The integers of 5 bits: the fifth bits are together, in the order of the values.
fn five_bits<'a>(high: &'a [u8], low: &'a [u8]) -> impl Iterator<Item = f32> + 'a {
    nibbles(low).enumerate().map(|(i, q)| f32::from(q | ((high[i / 8] >> (i % 8)) & 1) << 4))
}

pub(crate) fn q5_0(block: &[u8], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    out.extend(five_bits(&block[2..6], &block[6..]).map(|q| scale * (q - 16.0)));
}

pub(crate) fn q5_1(block: &[u8], out: &mut Vec<f32>) {
    let (scale, least) = (half(block, 0), half(block, 2));
    out.extend(five_bits(&block[4..8], &block[8..]).map(|q| scale * q + least));
}

pub(crate) fn q8_0(block: &[u8], out: &mut Vec<f32>) {
    let scale = half(block, 0);
    out.extend(block[2..].iter().map(|&q| f32::from(q.cast_signed()) * scale));
}

/// Scale and minimum of a group of 32 in a block of 256. Those of the first four groups are the low six bits of the
/// bytes 0..4 and 4..8; those of the others have four bits in the bytes 8..12 and two at the top of the former.
fn scale_and_least(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = match group.checked_sub(4) {
        None => (packed[group] & 63, packed[group + 4] & 63),
        Some(i) => (packed[8 + i] & 15 | packed[i] >> 6 << 4, packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4),
    };
    (f32::from(scale), f32::from(least))
}

/// Appends a block of the types `Q4_K` and `Q5_K`, whose integer with the low bits `low` is `integer(i, low)` for the
/// i-th value of the block.
fn groups_of_32(block: &[u8], low: &[u8], integer: impl Fn(usize, u8) -> u8, out: &mut Vec<f32>) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (pair, bytes) in low.chunks_exact(32).enumerate() {
        for (i, q) in nibbles(bytes).enumerate() {
            let value = 64 * pair + i;
            let (of_scale, of_least) = scale_and_least(&block[4..16], value / 32);
            out.push(scale * of_scale * f32::from(integer(value, q)) - least * of_least);
        }
    }
}

pub(crate) fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    groups_of_32(block, &block[16..], |_, low| low, out);
}

pub(crate) fn q5_k(block: &[u8], out: &mut Vec<f32>) {
    // Bit g of byte i is the fifth bit of value i of group g.
    let high = &block[16..48];
    groups_of_32(block, &block[48..], |value, low| low | ((high[value % 32] >> (value / 32)) & 1) << 4, out);
}

/// Each half of 128 values has 64 bytes of low bits and 32 of high ones, and every 16 values have a scale.
pub(crate) fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, scale) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (part, (low, high)) in low.chunks_exact(64).zip(high.chunks_exact(32)).enumerate() {
        for (i, q) in nibbles(low).enumerate() {
            let bits = (high[i % 32] >> (2 * (i / 32))) & 3;
            let of_scale = f32::from(scales[8 * part + i / 16].cast_signed());
            out.push(scale * of_scale * (f32::from(q | bits << 4) - 32.0));
        }
    }
}
