use super::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tar::{Builder, Header};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/imports/megatron").join(name)
}

fn opened(name: &str) -> Megatron {
    Megatron::open(&golden(name), &golden(name).join("tokens.jsonl")).unwrap()
}

/// A copy of one of the folders, that can be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Reads all samples of a folder.
fn read(folder: &Path) -> Result<Vec<ForeignSample>> {
    let source = Megatron::open(folder, &folder.join("tokens.jsonl"))?;
    source.samples(0..source.lengths().len() as u64)?.collect()
}

fn refused(folder: &Path, words: &[&str]) {
    let error = read(folder).unwrap_err().to_string();
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
}

#[test]
fn every_form_is_read_in_the_order_of_training() {
    let expected: Value = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    for (name, selection) in [
        ("version-1", Selection::TopP { p: 0.3, k: 8 }),
        ("version-2", Selection::TopK { k: 8 }),
        ("wide", Selection::TopP { p: 0.1, k: 7 }),
        ("bytes", Selection::TopK { k: 5 }),
    ] {
        let source = opened(name);
        assert_eq!(source.info().selection, selection);
        let expected = expected[name]["samples"].as_array().unwrap();
        let samples: Vec<ForeignSample> =
            source.samples(0..expected.len() as u64).unwrap().map(Result::unwrap).collect();
        let mut documents: Vec<u64> = samples.iter().map(|sample| sample.document).collect();
        for (sample, length) in samples.iter().zip(source.lengths()) {
            let expected = &expected[sample.document as usize];
            assert_eq!(json!(sample.input_ids), expected["input_ids"], "{name}");
            assert_eq!(sample.input_ids.len(), *length as usize);
            let ids: Vec<Vec<u64>> =
                sample.rows.iter().map(|row| row.entries.iter().map(|entry| entry.id).collect()).collect();
            assert_eq!(json!(ids), expected["ids"], "{name}: sample {}", sample.document);
            let stored = expected["log_probs"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
            for (entry, stored) in sample.rows.iter().flat_map(|row| &row.entries).zip(stored) {
                assert!((entry.log_prob - stored.as_f64().unwrap()).abs() < 1e-7, "{name}: {entry:?}, {stored}");
            }
        }
        documents.sort_unstable();
        assert!(documents.into_iter().eq(0..expected.len() as u64));
        let some = source.samples(1..2).unwrap().map(Result::unwrap);
        assert!(some.eq([samples[1].clone()]), "{name}");
    }
    assert_eq!(opened("version-2").notes().len(), 1, "its sequences end with the last position");
    assert!(opened("version-1").notes().is_empty());
}

#[test]
fn files_and_tokens_decide_the_fingerprint() {
    let (folder, whole) = (copy("version-2"), opened("version-2").fingerprint().unwrap());
    let tokens = folder.path().join("tokens.jsonl");
    let print = || Megatron::open(folder.path(), &tokens).unwrap().fingerprint().unwrap();
    assert_eq!(print(), whole);
    let text = fs::read_to_string(&tokens).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    fs::write(&tokens, format!("{rest}{first}\n")).unwrap();
    assert_ne!(print(), whole);
}

#[test]
fn tokens_that_cannot_be_theirs_are_refused() {
    let folder = copy("version-2");
    let tokens = folder.path().join("tokens.jsonl");
    let text = fs::read_to_string(&tokens).unwrap();
    fs::write(&tokens, format!("{text}{text}")).unwrap();
    refused(folder.path(), &["16 sequences, but the files have 8 samples (2 iterations of 4)"]);
    fs::write(&tokens, text.replacen('[', "[1,1,", 1)).unwrap();
    refused(folder.path(), &["tokens.jsonl: line 1: 7 tokens, but 5 positions were saved"]);
    fs::write(&tokens, text.replacen("input_ids", "tokens", 1)).unwrap();
    refused(folder.path(), &["line 1: not an object with the list `input_ids`"]);
    fs::write(&tokens, text.replacen('[', "[-", 1)).unwrap();
    refused(folder.path(), &["line 1: not an object"]);
}

#[test]
fn folders_that_are_not_whole_are_refused() {
    let folder = copy("version-1");
    let at = |name: &str| folder.path().join(name);
    fs::remove_file(at("cp0_dp1__10.tar")).unwrap();
    refused(folder.path(), &["10.pt.zst of rank 1 is missing"]);
    fs::copy(at("cp0_dp1__9.tar"), at("cp0_dp1__11.tar")).unwrap();
    refused(folder.path(), &["cp0_dp1__9.tar: 9.pt.zst is in", "cp0_dp1__11.tar as well"]);

    let folder = copy("version-1");
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("cp0_dp0__9.tar"), at("cp1_dp0__9.tar")).unwrap();
    refused(folder.path(), &["cp1_dp0__9.tar: rank 1 of context parallelism wrote it"]);
    fs::rename(at("cp1_dp0__9.tar"), at("tp0_cp0_dp0__9.tar")).unwrap();
    refused(folder.path(), &["tp0_cp0_dp0__9.tar: its name is neither"]);
    fs::rename(at("tp0_cp0_dp0__9.tar"), at("dp0__9.tar.stale")).unwrap();
    read(folder.path()).unwrap();
    fs::copy(golden("version-2/dp0__4-12.tar"), at("dp2__4-12.tar")).unwrap();
    refused(folder.path(), &["dp2__4-12.tar: its _meta.json differs from that of"]);

    let folder = copy("version-2");
    fs::remove_file(folder.path().join("dp1__4-12.tar")).unwrap();
    refused(folder.path(), &["`_meta.json` says dp_size_save = 2, but the files have 1"]);
    refused(&golden(""), &["there is no .tar file in it"]);
}

const META: &[u8] = br#"{"hash":null,"saver":{"k":2,"p":null}}"#;

/// A folder of one file with these members, and a sequence of two tokens.
fn folder(members: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Builder::new(fs::File::create(folder.path().join("dp0__0.tar")).unwrap());
    for (name, bytes) in members {
        let mut header = Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
    fs::write(folder.path().join("tokens.jsonl"), "{\"input_ids\":[1,2]}\n").unwrap();
    folder
}

#[test]
fn members_of_another_form_are_refused() {
    let refused = |members: &[(&str, &[u8])], words: &[&str]| refused(folder(members).path(), words);
    let meta = ("_meta.json", META);
    refused(&[("0.pt.zst", b"")], &["dp0__0.tar: it begins with `0.pt.zst`"]);
    refused(&[meta], &["hold no iteration"]);
    refused(&[("_meta.json", b"{}")], &["_meta.json: missing field `saver`"]);
    refused(&[meta, ("0.pt", b"")], &["it has `0.pt`"]);
    refused(&[meta, ("0-1.pt.zst", b""), ("1.pt.zst", b"")], &["some iterations are named by their number"]);
    refused(&[meta, ("0.pt.zst", b""), ("2.pt.zst", b"")], &["iteration 1 is expected", "but 2 follows"]);
    refused(&[meta, ("0.pt.zst", b"text")], &["dp0__0.tar: 0.pt.zst: not whole zstd data"]);
    let packed = zstd::encode_all(&b"legacy pickle"[..], 0).unwrap();
    refused(&[meta, ("0.pt.zst", &packed)], &["0.pt.zst: not a whole ZIP archive, as torch.save"]);
    let cut = &packed[..packed.len() - 2];
    refused(&[meta, ("0.pt.zst", cut)], &["0.pt.zst: not whole zstd data"]);
}

/// The unpacked first payload of one of the folders.
fn unpacked(name: &str, file: &str) -> Vec<u8> {
    let file = fs::File::open(golden(name).join(file)).unwrap();
    let mut archive = tar::Archive::new(file);
    let entry = archive.entries().unwrap().nth(1).unwrap().unwrap();
    zstd::decode_all(entry).unwrap()
}

#[test]
fn payloads_with_other_contents_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let mut bytes = unpacked("bytes", "dp0__0.tar");
        change(&mut bytes);
        let packed = zstd::encode_all(&*bytes, 0).unwrap();
        refused(folder(&[("_meta.json", META), ("0.pt.zst", &packed)]).path(), words);
    };
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|there| there == text).unwrap();
    // The pickle's checksum stands in its own header and in the directory.
    let damage = |bytes: &mut Vec<u8>| {
        let place = find(bytes, b"bit_17");
        bytes[place] = b'c';
    };
    refused(&damage, &["data.pkl does not have the checksum"]);
    let pickle = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: &mut Vec<u8>| {
            let place = find(bytes, from);
            bytes[place..place + to.len()].copy_from_slice(to);
            let (start, end) = (find(bytes, b"\x80\x02}q"), find(bytes, b"u.") + 2);
            let mut crc = flate2::Crc::new();
            crc.update(&bytes[start..end]);
            let listed = bytes.windows(4).position(|there| there == b"PK\x01\x02").unwrap();
            bytes[listed + 16..listed + 20].copy_from_slice(&crc.sum().to_le_bytes());
        }
    };
    refused(&pickle(b"format_versionq", b"format_vexsion"), &["there is no `format_version`"]);
    refused(&pickle(b"bit_17", b"bit_18"), &["there is no `bit_17`"]);
    refused(&pickle(b"torch\nBoolStorage", b"torch\nByteStorage"), &["`bit_17` is [3, 2, 5] of U8"]);
    refused(&pickle(b"torch\nuint16", b"torch\nint160"), &["it uses `torch.int160`"]);
    refused(
        &pickle(b"collections\nOrderedDict", b"subprocess1\nOrderedDict"),
        &["`subprocess1.OrderedDict`", "not executed"],
    );
}

#[test]
fn a_changed_byte_of_a_payload_is_an_error_or_changes_nothing_that_is_read() {
    let whole = unpacked("version-2", "dp0__4-12.tar");
    let expected = format!("{:?}", Payload::of_torch(&whole).unwrap());
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 0x55;
        if let Ok(payload) = Payload::of_torch(&changed) {
            assert_eq!(format!("{payload:?}"), expected, "byte {place}");
        }
    }
}
