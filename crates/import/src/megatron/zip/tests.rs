use super::*;

/// An archive of one entry, whose lengths are in the extra field of 64 bits if `is_long`.
fn archive(name: &str, contents: &[u8], is_long: bool) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(contents);
    let (crc, length) = (crc.sum(), contents.len() as u64);
    let short = if is_long { u32::MAX } else { length as u32 };
    let extra: Vec<u8> = match is_long {
        true => [&b"\x99\x00\x02\x00ab\x01\x00\x10\x00"[..], &length.to_le_bytes(), &length.to_le_bytes()].concat(),
        false => Vec::new(),
    };
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let sizes = [crc, short, short].map(u32::to_le_bytes).concat();
    let lengths = [name.len() as u16, extra.len() as u16];
    let mut bytes = [&LOCAL.to_le_bytes()[..], &words(&[20, 0, 0, 0, 0]), &sizes, &words(&lengths)].concat();
    bytes.extend([name.as_bytes(), &extra, contents].concat());
    let start = bytes.len() as u64;
    bytes.extend([&LISTED.to_le_bytes()[..], &words(&[20, 20, 0, 0, 0, 0]), &sizes, &words(&lengths)].concat());
    bytes.extend([&words(&[0, 0, 0, 0, 0]), &0u32.to_le_bytes()[..], name.as_bytes(), &extra].concat());
    let end = bytes.len() as u64;
    if is_long {
        bytes.extend([&END_64.to_le_bytes()[..], &[0; 28]].concat());
        bytes.extend([1, end - start, start].map(u64::to_le_bytes).concat());
        bytes.extend([&LOCATOR_64.to_le_bytes()[..], &[0; 4], &end.to_le_bytes(), &[0; 4]].concat());
    }
    let (count, start) = if is_long { (u16::MAX, u32::MAX) } else { (1, start as u32) };
    bytes.extend(
        [&END.to_le_bytes()[..], &words(&[0, 0, count, count]), &[0; 4], &start.to_le_bytes(), &[0; 2]].concat(),
    );
    bytes
}

#[test]
fn entries_of_both_lengths_are_read() {
    for is_long in [false, true] {
        let bytes = archive("a/data.pkl", b"contents", is_long);
        let archive = Archive::open(&bytes).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a/data.pkl"]);
        assert_eq!(archive.entry("a/data.pkl").unwrap(), Some(&b"contents"[..]));
        assert_eq!(archive.entry("b").unwrap(), None);
    }
}

#[test]
fn damaged_archives_are_refused_wherever_they_are_cut_or_changed() {
    for is_long in [false, true] {
        let whole = archive("a", b"contents", is_long);
        for length in 0..whole.len() {
            assert!(Archive::open(&whole[..length]).is_err(), "{length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0xff;
            // Bytes that nothing depends on, such as dates, may change.
            if let Ok(archive) = Archive::open(&changed)
                && let Ok(Some(contents)) = archive.entry("a")
            {
                assert_eq!(contents, b"contents");
            }
        }
    }
    let mut changed = archive("a", b"contents", false);
    changed[32] ^= 1;
    let error = Archive::open(&changed).unwrap().entry("a").unwrap_err();
    assert!(error.contains("a does not have the checksum"), "{error}");
    let mut packed = archive("a", b"contents", false);
    let listed = 30 + 1 + 8;
    packed[listed + 10] = 8;
    let error = Archive::open(&packed).unwrap().entry("a").unwrap_err();
    assert!(error.contains("a is compressed"), "{error}");
}
