//! Numbers of any width, one after the other: the most significant bit first, with zeros up to the end of the last
//! byte.

/// Bytes that `count` numbers of `bits` take.
pub(super) fn packed_bytes(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Reads `count` numbers of 1 to 64 bits; `None` if the bits after the last one are not zero.
pub(super) fn unpack(bytes: &[u8], bits: u32, count: usize) -> Option<Vec<u64>> {
    let (mut numbers, mut window, mut width) = (Vec::with_capacity(count), 0_u128, 0_u32);
    for &byte in bytes {
        window = window << 8 | u128::from(byte);
        width += 8;
        while width >= bits && numbers.len() < count {
            width -= bits;
            numbers.push((window >> width) as u64);
            window &= (1 << width) - 1;
        }
    }
    (numbers.len() == count && window == 0).then_some(numbers)
}

/// The inverse of [`unpack`].
pub(super) fn pack(numbers: impl IntoIterator<Item = u64>, bits: u32) -> Vec<u8> {
    let (mut bytes, mut window, mut width) = (Vec::new(), 0_u128, 0_u32);
    for number in numbers {
        window = window << bits | u128::from(number);
        width += bits;
        while width >= 8 {
            width -= 8;
            bytes.push((window >> width) as u8);
            window &= (1 << width) - 1;
        }
    }
    if width > 0 {
        bytes.push((window << (8 - width)) as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_packed_from_the_top() {
        // 101 011 110 and seven zeros.
        assert_eq!(pack([0b101, 0b011, 0b110], 3), [0b1010_1111, 0]);
        assert_eq!(unpack(&[0b1010_1111, 0], 3, 3), Some(vec![0b101, 0b011, 0b110]));
        assert_eq!(unpack(&[0b1010_1111, 0b0100_0000], 3, 3), None, "a bit after the last number");
        assert_eq!(unpack(&[0b1010_1111], 3, 3), None, "cut off");
    }

    #[test]
    fn every_width_comes_back() {
        for bits in 1..=64 {
            let largest = u64::MAX >> (64 - bits);
            let numbers = [largest, 0, largest / 3, 1, largest];
            let bytes = pack(numbers, bits);
            assert_eq!(bytes.len(), packed_bytes(5, bits));
            assert_eq!(unpack(&bytes, bits, 5).unwrap(), numbers, "{bits} bits");
        }
    }
}
