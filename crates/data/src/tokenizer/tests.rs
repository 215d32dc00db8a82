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
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "start", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"start": {"id": "start", "ids": [5], "tokens": ["<é x>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": 0.9,
            "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "ĊĠâ": 4},
            "merges": [["a", "b"]],
        },
    })
}

fn load(json: &Value) -> TextTokenizer {
    TextTokenizer::from_json_bytes(json.to_string().as_bytes(), &[], None).unwrap()
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
    let error = TextTokenizer::from_json_bytes(bytes.as_bytes(), &[], Some(6)).unwrap_err().to_string();
    assert_eq!(error, "token 6 is not one of the tokenizer's 6; this id comes from another tokenizer");
}

#[test]
fn decoding_leaves_out_start_and_end_and_refuses_foreign_ids() {
    let tokenizer = load(&published());
    assert_eq!(tokenizer.decode(&[5, 2, 3, 0, 5]).unwrap(), "ab a");
    assert!(tokenizer.decode(&[7]).unwrap_err().to_string().starts_with("token 7 is not one of"));
    let mut without = published();
    without["post_processor"] = Value::Null;
    let without = load(&without);
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
fn the_file_is_kept_as_it_was_given() {
    for bytes in [published().to_string(), serde_json::to_string_pretty(&published()).unwrap() + "\n"] {
        let tokenizer = TextTokenizer::from_json_bytes(bytes.as_bytes(), &[], None).unwrap();
        assert_eq!(tokenizer.json(), bytes.as_bytes());
        assert_eq!(tokenizer.fingerprint(), Fingerprint::of(bytes.as_bytes()));
        assert_eq!(tokenizer.parsing().fingerprint(), tokenizer.fingerprint());
    }
}

/// The file with this template; tokens are named by their ids.
fn with_template(single: &[&str]) -> Result<TextTokenizer> {
    let piece = |piece: &&str| match *piece {
        "text" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        id => json!({"SpecialToken": {"id": id, "type_id": 0}}),
    };
    let mut file = published();
    file["post_processor"]["single"] = single.iter().map(piece).collect();
    let token = |id: u32| (id.to_string(), json!({"id": id.to_string(), "ids": [id], "tokens": ["x"]}));
    file["post_processor"]["special_tokens"] = Value::Object([0, 3, 5].map(token).into_iter().collect());
    TextTokenizer::from_json_bytes(file.to_string().as_bytes(), &[], None)
}

#[test]
fn start_and_end_are_what_the_post_processor_puts_around_a_text() {
    for (single, bos, end) in [
        (&["text"][..], None, None),
        (&["5", "text"], Some(5), None),
        (&["text", "3"], None, Some(3)),
        (&["5", "text", "5"], Some(5), Some(5)),
        // A token that texts hold too.
        (&["0", "text"], Some(0), None),
        (&["text", "0"], None, Some(0)),
    ] {
        let tokenizer = with_template(single).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (bos, end), "{single:?}");
    }
    let error = with_template(&["5", "3", "text"]).unwrap_err().to_string();
    let expected = "tokenizer.json: its post-processor puts 2 tokens in front of every text (`<é x>` (5), `Ġ` (3)); this build puts one there";
    assert_eq!(error, expected);
    let error = with_template(&["text", "3", "5"]).unwrap_err().to_string();
    assert!(error.contains("puts 2 tokens behind every text"), "{error}");
    let error = with_template(&["5"]).unwrap_err().to_string();
    assert!(error.contains("does not put the same tokens in front of every text"), "{error}");
}

#[test]
fn an_end_that_contradicts_the_post_processor_is_refused() {
    let ended = with_template(&["text", "3"]).unwrap();
    let given = |end| TextTokenizer::from_json_bytes(ended.json(), &[], Some(end));
    assert_eq!(given(3).unwrap().eos(), Some(3));
    let error = given(5).unwrap_err().to_string();
    assert_eq!(
        error,
        "tokenizer.json: its post-processor ends every text with `Ġ` (3), and `<é x>` (5) was given as the end"
    );
}

#[test]
fn extra_tokens_get_the_ids_that_were_written_down() {
    let bytes = published().to_string();
    let extra = [(6, "<pad>".to_owned()), (7, "<tool>".to_owned())];
    let tokenizer = TextTokenizer::from_json_bytes(bytes.as_bytes(), &extra, Some(7)).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos(), tokenizer.added_tokens()), (8, Some(7), &extra[..]));
    assert_eq!(tokenizer.json(), bytes.as_bytes());
    assert_eq!(tokenizer.parsing().encode("a<tool>").unwrap(), [0, 7]);
    let error = TextTokenizer::from_json_bytes(bytes.as_bytes(), &extra[1..], None).unwrap_err().to_string();
    assert!(error.contains("`<tool>` gets the id 6 beside it, not 7"), "{error}");
}

#[test]
fn a_special_token_that_a_text_spells_out_is_found() {
    let tokenizer = load(&published());
    let found = tokenizer.spelled_out("é ab <é x>b<é x>").unwrap();
    assert_eq!(found, SpelledOut { token: "<é x>".into(), id: 5, character: 5 });
    assert_eq!(tokenizer.spelled_out("<é"), None);
    assert_eq!(tokenizer.spelled_out(""), None);
    let mut usual = published();
    usual["added_tokens"][0]["special"] = false.into();
    assert_eq!(load(&usual).spelled_out("<é x>"), None, "only special ones");
    assert_eq!(load(&usual).encode("a<é x>").unwrap(), [0, 5], "the others are tokens");
}

#[test]
fn unreadable_files_are_named() {
    let error = TextTokenizer::from_json_file(Path::new("no/such/tokenizer.json"), None).unwrap_err().to_string();
    assert!(error.starts_with("no/such/tokenizer.json: "), "{error}");
    for (bytes, expected) in [
        (&b"{}"[..], "tokenizer.json: not a tokenizer.json that can be read: it has no `model`"),
        (
            b"",
            "tokenizer.json: not a tokenizer.json that can be read: it is not JSON: EOF while parsing a value at line 1 column 0",
        ),
    ] {
        let error = TextTokenizer::from_json_bytes(bytes, &[], None).unwrap_err();
        assert_eq!(error.to_string(), expected);
        // A caller that prints what lies below an error would print it twice.
        assert!(std::error::Error::source(&error).is_none());
    }
    let mut file = published();
    file["pre_tokenizer"] = json!({"type": "SplitByTime"});
    let error = TextTokenizer::from_json_bytes(file.to_string().as_bytes(), &[], None).unwrap_err().to_string();
    assert!(
        error.contains("that can be read: pre_tokenizer of type `SplitByTime` is unknown to this build"),
        "{error}"
    );
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    let error = TextTokenizer::from_json_file(&path, None).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: is a Git LFS pointer, not the file it stands for"), "{error}");
}
