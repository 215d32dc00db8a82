use super::*;
use serde_json::{Value, json};

/// A byte-level tokenizer of five pieces and one added token, as a published file may look.
fn published() -> Value {
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
        },
        "added_tokens": [{
            "id": 5, "content": "<é x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        }],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": 0.9,
            "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "ĊĠâ": 4},
            "merges": [["a", "b"]],
        },
    })
}

fn load(json: &Value) -> TextTokenizer {
    TextTokenizer::from_json_bytes(json.to_string().as_bytes(), Some(5), None).unwrap()
}

#[test]
fn nothing_is_truncated_padded_or_left_to_chance() {
    let tokenizer = load(&published());
    for _ in 0..20 {
        assert_eq!(tokenizer.encode("ab ab ab").unwrap(), [2, 3, 2, 3, 2]);
    }
}

#[test]
fn vocabulary_counts_added_tokens_and_bounds_special_ids() {
    assert_eq!(load(&published()).vocab_size(), 6);
    let bytes = published().to_string();
    let error = TextTokenizer::from_json_bytes(bytes.as_bytes(), None, Some(6)).unwrap_err().to_string();
    assert_eq!(error, "token 6 is not one of the tokenizer's 6; this id comes from another tokenizer");
}

#[test]
fn decoding_leaves_out_start_and_end_and_refuses_foreign_ids() {
    let tokenizer = load(&published());
    assert_eq!(tokenizer.decode(&[5, 2, 3, 0, 5]).unwrap(), "ab a");
    assert!(tokenizer.decode(&[7]).unwrap_err().to_string().starts_with("token 7 is not one of"));
    let without = TextTokenizer::from_json_bytes(published().to_string().as_bytes(), None, None).unwrap();
    assert_eq!(without.decode(&[5, 2]).unwrap(), "<é x>ab");
}

#[test]
fn tokens_are_shown_for_a_reader() {
    let tokenizer = load(&published());
    assert_eq!([3, 4, 5, 7].map(|id| tokenizer.token_text(id)), ["␣", "\\n␣\\xe2", "<é␣x>", "<no token 7>"]);
}

#[test]
fn byte_table_is_the_librarys() {
    let bytes: Vec<u8> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .map(|c| byte_of(c).unwrap_or_else(|| panic!("{c}")))
        .collect();
    assert_eq!(bytes.len(), 256);
    assert!((0..=255).all(|byte| bytes.contains(&byte)));
    assert_eq!(
        ['Ġ', 'Ċ', 'a', 'â', 'Ń', ' ', 'ń', '🦀'].map(byte_of),
        [Some(b' '), Some(b'\n'), Some(b'a'), Some(0xe2), Some(0xad), None, None, None]
    );
}

#[test]
fn canonical_json_and_fingerprint() {
    let tokenizer = load(&published());
    let json = tokenizer.to_json().unwrap();
    let again = TextTokenizer::from_json_bytes(&json, Some(5), None).unwrap();
    assert_eq!(again.to_json().unwrap(), json);
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
    let mut seen = vec![tokenizer.fingerprint()];
    let mut renamed = published();
    renamed["model"]["vocab"] = json!({"b": 0, "a": 1, "ab": 2, "Ġ": 3, "ĊĠâ": 4});
    seen.push(load(&renamed).fingerprint());
    seen.push(TextTokenizer::from_json_bytes(&json, None, Some(5)).unwrap().fingerprint());
    seen.push(TextTokenizer::from_json_bytes(&json, None, None).unwrap().fingerprint());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "vocabulary and both special ids are pinned");
}

#[test]
fn unreadable_files_are_named() {
    let error = TextTokenizer::from_json_file(Path::new("no/such/tokenizer.json"), None, None).unwrap_err().to_string();
    assert!(error.starts_with("no/such/tokenizer.json: "), "{error}");
    let error = TextTokenizer::from_json_bytes(b"{}", None, None).unwrap_err().to_string();
    assert!(error.starts_with("tokenizer.json: not a tokenizer.json that can be read: "), "{error}");
}
