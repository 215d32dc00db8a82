use super::*;

/// What PyTorch 2.15 wrote of `{"values": tensor of [2, 3] halves}`, put together by hand.
fn tensor(size: &[u8]) -> Vec<u8> {
    [
        &b"\x80\x02}q\x00X\x06\x00\x00\x00valuesq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"[..],
        b"ctorch\nHalfStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x06tq\x07QK\x00",
        size,
        b"q\x08K\x03K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds.",
    ]
    .concat()
}

const SIZE: &[u8] = b"K\x02K\x03\x86";

#[test]
fn a_dictionary_of_a_tensor_is_read() {
    let Value::Dict(items) = read(&tensor(SIZE)).unwrap() else { panic!("no dictionary") };
    let [(Value::Text(key), Value::Tensor(tensor))] = &*items else { panic!("{items:?}") };
    assert_eq!((&**key, tensor.dtype, tensor.offset), ("values", Dtype::F16, 0));
    assert_eq!((&*tensor.size, &*tensor.stride), (&[2, 3][..], &[3, 1][..]));
    assert_eq!(*tensor.storage, Storage { dtype: Some(Dtype::F16), key: "0".into(), count: 6 });
}

#[test]
fn integers_of_every_length_are_read() {
    let number = |bytes: &[u8]| read(&[b"\x80\x02", bytes, b"."].concat()).unwrap();
    for (bytes, expected) in [
        (&b"K\xff"[..], 255),
        (b"M\x01\x02", 513),
        (b"J\xff\xff\xff\xff", -1),
        (b"\x8a\x00", 0),
        (b"\x8a\x02\x00\x80", -32768),
        (b"\x8a\x05\x00\x00\x00\x00\x01", 1 << 32),
    ] {
        assert_eq!(number(bytes), Value::Int(expected));
    }
    refused(b"\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "more than 64 bits");
}

fn refused(pickle: &[u8], words: &str) {
    let error = read(pickle).unwrap_err();
    assert!(error.contains(words), "{error}");
}

#[test]
fn names_and_opcodes_that_tensors_do_not_need_are_refused() {
    refused(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "byte 2 of the pickle: it uses `os.system`");
    refused(b"\x80\x02cbuiltins\neval\n.", "`builtins.eval`");
    refused(b"\x80\x02ctorch\nDoubleStorage\n.", "`torch.DoubleStorage`");
    refused(b"\x80\x02ctorch\nload\n.", "`torch.load`");
    refused(b"\x80\x02}b.", "opcode 0x62 (BUILD)");
    refused(b"\x80\x02)\x81.", "opcode 0x81 (NEWOBJ)");
    refused(b"(S'ls'\nios\nsystem\n.", "opcode 0x53");
    refused(b"\x80\x04.", "protocol 4");
    refused(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "other arguments than torch.save writes");
    refused(b"\x80\x02K\x01)R.", "a call of something that is no name");
    refused(b"\x80\x02K\x01Q.", "persistent id");
    refused(b"\x80\x02}q\x00h\x00.", "value 0 was not stored before, or is a list or a dictionary used twice");
    refused(&[&b"\x80\x02K\x01"[..], &b"\x85".repeat(1000), b"."].concat(), "deeper than 4");
}

#[test]
fn values_that_are_used_again_and_again_cost_no_more_than_their_bytes() {
    // A tuple of many numbers, one of the former many times, and one of that many times: 27 * 10^9 values to walk.
    let many = 3_000;
    let again = |index: u8| [&b"("[..], &[b'h', index].repeat(many), b"tq", &[index + 1]].concat();
    let numbers = [&b"\x80\x02("[..], &b"K\x01".repeat(many), b"tq\x00"].concat();
    let start = std::time::Instant::now();
    read(&[numbers, again(0), again(1), b".".to_vec()].concat()).unwrap();
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    refused(&tensor(b"K\x02K\x04\x86"), "a tensor of size [2, 4], stride [3, 1] and offset 0 in a storage of 12 bytes");
    refused(&tensor(b"J\xff\xff\xff\xffK\x03\x86"), "negative");
    refused(&tensor(b"K\x02\x85"), "a tensor of size [2]");
    // Rows with steps of 0 numbers: within the storage, but larger than it.
    let view = Tensor {
        storage: Rc::new(Storage { dtype: Some(Dtype::F16), key: "0".into(), count: 6 }),
        dtype: Dtype::F16,
        offset: 0,
        size: vec![7, 3],
        stride: vec![0, 1],
    };
    assert!(view.check().unwrap_err().starts_with("a tensor of size [7, 3], stride [0, 1]"));
    refused(&tensor(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x03\x86"), "a tensor of size");
}

#[test]
fn no_cut_and_no_change_of_a_byte_makes_it_panic() {
    let whole = tensor(SIZE);
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
    for place in 0..whole.len() {
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[place] = byte;
            let _ = read(&changed);
        }
    }
}
