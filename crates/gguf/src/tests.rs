//! Blocks against the numbers of another implementation, and headers that are damaged.

use crate::header::{HEADER_LIMIT, Header, MEMORY_LIMIT, Problem};
use crate::{GgufFile, Numbers, TensorType, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;

fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/gguf")
}

#[test]
fn blocks_have_the_values_of_the_gguf_package() {
    let cases: BTreeMap<String, Json> =
        serde_json::from_slice(&std::fs::read(golden().join("blocks.json")).unwrap()).unwrap();
    for tensor_type in TensorType::ALL {
        let case = &cases[tensor_type.name()];
        let list = |key: &str| case[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
        let bytes: Vec<u8> = list("bytes").into_iter().map(|byte| byte as u8).collect();
        let expected: Vec<f32> = list("bits").into_iter().map(|bits| f32::from_bits(bits as u32)).collect();
        let mut values = Vec::new();
        tensor_type.dequantise(&bytes, &mut values);
        assert_eq!(values.len(), expected.len(), "{}", tensor_type.name());
        for (i, (got, wanted)) in values.iter().zip(&expected).enumerate() {
            assert!(got == wanted, "{} value {i}: {got}, expected {wanted}", tensor_type.name());
        }
        assert_eq!(values.len() / tensor_type.block_values(), bytes.len() / tensor_type.block_bytes());
    }
}

/// A header with a key of every type and two tensors, and their bytes.
fn example() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    file.extend(3u32.to_le_bytes());
    file.extend(2u64.to_le_bytes());
    let keys: [(&str, u32, &[u8]); 7] = [
        ("u8", 0, &[200]),
        ("i16", 3, &(-2i16).to_le_bytes()),
        ("eps", 6, &1e-5f32.to_le_bytes()),
        ("bool", 7, &[1]),
        ("f64", 12, &0.5f64.to_le_bytes()),
        ("i32s", 9, &[5, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 3, 0, 0, 0]),
        ("texts", 9, &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']),
    ];
    file.extend((keys.len() as u64).to_le_bytes());
    for (key, kind, value) in keys {
        text(&mut file, key);
        file.extend(kind.to_le_bytes());
        file.extend(value);
    }
    for (name, shape, id, offset) in [("plain", &[3u64, 2][..], 0u32, 0u64), ("quantised", &[32], 8, 32)] {
        text(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|n| file.extend(n.to_le_bytes()));
        file.extend(id.to_le_bytes());
        file.extend(offset.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend((0..6).flat_map(|i| (i as f32).to_le_bytes()));
    file.extend([0; 8]);
    file.extend([0, 60]);
    file.extend(0..32);
    file
}

fn problem(bytes: &[u8]) -> String {
    match Header::parse(bytes, bytes.len() as u64) {
        Err(Problem::Format(problem)) => problem,
        Err(Problem::Io(error)) => panic!("{error}"),
        Ok(_) => panic!("read"),
    }
}

#[test]
fn a_header_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, example()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let value = |key: &str| file.metadata()[key].clone();
    assert_eq!(value("u8").as_u64(), Some(200));
    assert_eq!((value("i16").as_u64(), value("i16").as_f64()), (None, Some(-2.0)));
    assert_eq!(value("eps").as_f64(), Some(1e-5), "the decimal number, not the nearest single");
    assert_eq!((value("bool").as_bool(), value("f64").as_f64()), (Some(true), Some(0.5)));
    assert_eq!(value("i32s"), Value::NumberList(Numbers::Signed(vec![-1, 3])));
    assert_eq!(value("texts"), Value::TextList(vec!["hi".to_owned()]));
    let plain = &file.tensors()["plain"];
    assert_eq!((plain.shape.as_slice(), plain.row_bytes()), ([2, 3].as_slice(), 12));
    let mut parts = Vec::new();
    file.for_each_group("quantised", 20, |part| parts.push(part.to_vec())).unwrap();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [20, 14]);
    let mut values = Vec::new();
    TensorType::Q8_0.dequantise(&parts.concat(), &mut values);
    assert_eq!(values, (0..32).map(|i| i as f32).collect::<Vec<_>>());
    let expected = "a whole number";
    let error = file.required("bool", expected, Value::as_u64).unwrap_err().to_string();
    assert!(error.ends_with("a.gguf: key `bool`: it is a truth value, expected a whole number"), "{error}");
    assert!(file.required("none", expected, Value::as_u64).unwrap_err().to_string().contains("it is missing"));
}

#[test]
fn what_is_not_read_is_named() {
    let example = example();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = example.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        problem(&file)
    };
    let find = |text: &str| example.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    assert!(changed(0, b"GGML").contains("not a GGUF file"));
    assert!(changed(4, &1u32.to_le_bytes()).contains("version 1"));
    assert!(changed(4, &3u32.to_be_bytes()).contains("big-endian"));
    // The type stands after the name, the number of dimensions and one dimension.
    let tensor_type = find("quantised") + 9 + 4 + 8;
    for (id, name) in [(10u32, "tensor `quantised`: has the type Q2_K"), (39, "MXFP4"), (99, "the type 99")] {
        let problem = changed(tensor_type, &id.to_le_bytes());
        assert!(problem.contains(name) && problem.contains("reads F32, F16, BF16, Q4_0"), "{problem}");
    }
    assert!(changed(find("quantised") + 13, &33u64.to_le_bytes()).contains("blocks of 32"));
    assert!(changed(find("quantised") + 13, &(1u64 << 63).to_le_bytes()).contains("after the end of the file"));
    assert!(changed(tensor_type + 4, &0u64.to_le_bytes()).contains("overlap"));
    assert!(changed(tensor_type + 4, &64u64.to_le_bytes()).contains("after the end of the file"));
    assert!(changed(find("i32s") + 8, &9u32.to_le_bytes()).contains("key `i32s`: a list of lists"));
    assert!(changed(find("i16"), b"eps").contains("the key `eps` twice"));
}

#[test]
fn a_length_in_a_header_is_not_believed() {
    let example = example();
    let at = example.windows(4).position(|window| window == b"i32s").unwrap() + 12;
    for count in [u64::MAX, 1 << 62, HEADER_LIMIT, HEADER_LIMIT / 8, 1 << 20] {
        let mut file = example.clone();
        file[at..at + 8].copy_from_slice(&count.to_le_bytes());
        let problem = problem(&file);
        assert!(problem.contains("goes past byte"), "{problem}");
    }
    for at in [8, 16, 24] {
        let mut file = example.clone();
        file[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        problem(&file);
    }
}

/// Version 2 differs from 3 in nothing that is read.
#[test]
fn version_2_is_read_alike() {
    let mut file = example();
    let third = Header::parse(&file[..], file.len() as u64).unwrap();
    file[4..8].copy_from_slice(&2u32.to_le_bytes());
    let second = Header::parse(&file[..], file.len() as u64).unwrap();
    assert_eq!((second.metadata, second.tensors), (third.metadata, third.tensors));
    assert_eq!(second.data_start, third.data_start);
}

/// A header of lists that take more memory than bytes.
#[test]
fn the_memory_of_a_header_is_bounded() {
    assert_eq!(MEMORY_LIMIT, 256 << 20, "as the documentation of GgufFile::open says");
    let list = |kind: u32, count: u64| {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend([0u64, 1, 1].map(u64::to_le_bytes).concat());
        file.push(b'a');
        file.extend([9, kind].map(u32::to_le_bytes).concat());
        file.extend(count.to_le_bytes());
        file
    };
    // A list of bytes, each of which is a number of eight bytes in memory.
    let (file, zeros) = (list(0, HEADER_LIMIT - 64), std::io::repeat(0));
    match Header::parse(std::io::Read::chain(&file[..], zeros), HEADER_LIMIT) {
        Err(Problem::Format(problem)) => assert!(problem.contains("bytes of memory"), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_header_is_an_error_or_another_header_and_never_a_panic() {
    let example = example();
    let header = Header::parse(&example[..], example.len() as u64).unwrap();
    for length in 0..example.len() {
        problem(&example[..length]);
    }
    // Every bit once, and every eight bytes set to a large number.
    for at in 0..header.data_start as usize {
        for bit in 0..8 {
            let mut file = example.clone();
            file[at] ^= 1 << bit;
            check(&file);
        }
        let mut file = example.clone();
        file[at..at + 8].fill(0xff);
        check(&file);
    }
}

/// Whatever a header says, its tensors are in the file.
fn check(file: &[u8]) {
    if let Ok(header) = Header::parse(file, file.len() as u64) {
        for tensor in header.tensors.values() {
            assert!(header.data_start + tensor.offset + tensor.bytes <= file.len() as u64);
        }
    }
}
