use super::*;
use crate::{Dataset, DatasetConfig, SpecialTokens, TextDataset};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/tokenizers").join(case)
}

const CASES: [&str; 9] =
    ["extra_token", "gemma", "gpt2", "gpt2_add_bos", "llama2", "llama2_no_bos", "llama3", "neox_truncating", "qwen"];

fn load(folder: &Path) -> (TextTokenizer, Vec<String>) {
    TextTokenizer::from_model_folder(folder, SpecialIds::default()).unwrap()
}

fn expected(case: &str) -> Vec<Value> {
    let json = fs::read(golden(case).join("expected.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    json["texts"].as_array().unwrap().clone()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn ids_are_those_of_transformers() {
    let mut agreed = 0;
    for case in CASES {
        let (tokenizer, _) = load(&golden(case));
        let parsing = tokenizer.parsing();
        for text in expected(case) {
            let own = parsing.encode(text["text"].as_str().unwrap()).unwrap();
            let all: Vec<u32> = tokenizer.bos().into_iter().chain(own).chain(tokenizer.eos()).collect();
            // Where its two versions disagree, what the file itself says is right.
            let agree = text["auto"] == text["auto_v4"];
            assert_eq!(all, ids(&text[if agree { "auto" } else { "raw" }]), "{case}: {}", text["text"]);
            agreed += usize::from(agree);
        }
    }
    assert_eq!(agreed, 78, "of 90");
}

#[test]
fn start_tokens_are_the_files_own() {
    let bos = CASES.map(|case| load(&golden(case)).0.bos());
    assert_eq!(bos, [None, Some(2), None, None, Some(1), Some(1), Some(360), None, None]);
    assert!(CASES.iter().all(|case| load(&golden(case)).0.eos().is_none()));
}

#[test]
fn spelled_out_special_tokens_stay_text_unless_parsed() {
    for case in CASES {
        let (tokenizer, _) = load(&golden(case));
        for text in expected(case) {
            let text = text["text"].as_str().unwrap();
            let (plain, parsed) = (tokenizer.encode(text).unwrap(), tokenizer.parsing().encode(text).unwrap());
            let found = tokenizer.spelled_out(text);
            assert_eq!(found.is_some(), plain != parsed, "{case}: {text}");
            if let Some(found) = found {
                assert!(parsed.contains(&found.id) && !plain.contains(&found.id), "{case}: {text}");
                let rest: String = text.chars().skip(found.character).collect();
                assert!(rest.starts_with(&found.token), "{case}: {found:?}");
            }
        }
    }
    // `<think>` is an added token of Qwen's, and no special one.
    let (qwen, _) = load(&golden("qwen"));
    assert_eq!(qwen.encode("<think>a</think><|im_end|>").unwrap()[..3], [363, 64, 364]);
    assert!(!qwen.encode("<|im_end|>").unwrap().contains(&362));
}

#[test]
fn tokens_that_only_the_config_names_come_next() {
    let (tokenizer, notes) = load(&golden("extra_token"));
    let added = [(361, "<|pad|>".to_owned()), (362, "<|tool|>".to_owned())];
    assert_eq!((tokenizer.added_tokens(), tokenizer.vocab_size()), (&added[..], 363));
    assert_eq!(notes, [] as [String; 0]);
    let again = TextTokenizer::from_json_bytes(tokenizer.json(), tokenizer.added_tokens(), None).unwrap();
    let text = "<|tool|>a<|pad|>";
    assert_eq!(again.parsing().encode(text).unwrap(), tokenizer.parsing().encode(text).unwrap());
    assert_eq!(again.parsing().encode(text).unwrap(), [362, 64, 361]);
    assert!(CASES.iter().all(|case| *case == "extra_token" || load(&golden(case)).0.added_tokens().is_empty()));
}

/// The GPT-2 case with another tokenizer_config.json.
fn with_config(config: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    fs::copy(golden("gpt2").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let path = folder.path().join("tokenizer_config.json");
    fs::write(&path, config).unwrap();
    (folder, path)
}

#[test]
fn a_config_may_name_tokens_in_all_the_ways_there_are() {
    let added = |config: &str| {
        let (folder, _) = with_config(config);
        load(folder.path()).0.added_tokens().to_vec()
    };
    let config = r#"{
        "extra_special_tokens": ["<f>"], "additional_special_tokens": [{"content": "<e>", "lstrip": false}],
        "pad_token": {"__type": "AddedToken", "content": "<d>"}, "unk_token": "<c>", "bos_token": "<|endoftext|>",
        "added_tokens_decoder": {"362": {"content": "<b>", "special": true}, "361": {"content": "<a>", "special": true}}
    }"#;
    let named: Vec<_> = ["<a>", "<b>", "<c>", "<d>", "<e>", "<f>"].map(str::to_owned).into_iter().collect();
    assert_eq!(added(config), (361..).zip(named).collect::<Vec<_>>());
    // In the vocabulary, though no added token: it keeps its id, and becomes a special one.
    assert_eq!(added(r#"{"pad_token": "a"}"#), [(64, "a".to_owned())]);
    assert_eq!(added(r#"{"extra_special_tokens": {"image": "<image>"}}"#), [(361, "<image>".to_owned())]);
    assert_eq!(added("{}"), []);
}

#[test]
fn configs_that_cannot_be_followed_are_refused() {
    for (config, expected) in [
        ("[", "not a tokenizer_config.json that can be read: "),
        (r#"{"pad_token": 3}"#, "`pad_token` is 3, expected a string or an object with a `content`"),
        (
            r#"{"additional_special_tokens": "<a>"}"#,
            "`additional_special_tokens` is \"<a>\", expected a list of tokens",
        ),
        (
            r#"{"pad_token": {"content": "<a>", "lstrip": true}}"#,
            "it adds `<a>`, which tokenizer.json lacks, with a rule",
        ),
        (r#"{"added_tokens_decoder": {"361": {"content": "<a>", "special": false}}}"#, "it adds `<a>`, which"),
        (r#"{"extra_special_tokens": {"a": "<a>", "b": "<b>"}}"#, "an object has no order"),
        ("version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    ] {
        let (folder, path) = with_config(config);
        let error = TextTokenizer::from_model_folder(folder.path(), SpecialIds::default()).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()) && error.contains(expected), "{error}");
    }
    let folder = TempDir::new().unwrap();
    let error = TextTokenizer::from_model_folder(folder.path(), SpecialIds::default()).unwrap_err().to_string();
    assert!(error.contains("no tokenizer.json; if it has vocab.json"), "{error}");
}

#[test]
fn contradictions_are_said() {
    let told = |case: &str, bos, eos: &[u32]| {
        let (tokenizer, notes) = TextTokenizer::from_model_folder(&golden(case), SpecialIds { bos, eos }).unwrap();
        (tokenizer.bos(), tokenizer.eos(), notes)
    };
    assert_eq!(told("llama2", Some(1), &[2]), (Some(1), Some(2), vec![]));
    let (bos, end, notes) = told("llama2", Some(0), &[2, 0]);
    assert_eq!((bos, end), (Some(1), Some(2)));
    let expected = "windows start with `<s>` (1), as tokenizer.json's post-processor says; config.json's bos_token_id `<unk>` (0) is not used";
    assert_eq!(notes, [expected]);
    let (bos, _, notes) = told("gpt2", Some(360), &[]);
    assert_eq!(bos, None);
    let expected = "windows start with no token in front, as tokenizer.json's post-processor says; config.json's bos_token_id `<|endoftext|>` (360) is not used";
    assert_eq!(notes, [expected]);
    for case in ["gpt2_add_bos", "llama2_no_bos"] {
        let notes = told(case, None, &[]).2;
        assert!(notes.len() == 1 && notes[0].contains("tokenizer_config.json's add_bos_token = "), "{case}: {notes:?}");
    }
    let (folder, _) = with_config(r#"{"added_tokens_decoder": {"360": {"content": "<|endoftext|>", "rstrip": true}}}"#);
    let notes = load(folder.path()).1;
    assert!(notes.len() == 1 && notes[0].contains("describes `<|endoftext|>` otherwise"), "{notes:?}");
}

/// Where this fails, the same texts become other windows than before: by a change of this crate, or by an update of the
/// `tokenizers` crate. Count [`crate::TOKENISATION_VERSION`] up, and put its new number and hash here.
#[test]
fn tokenisation_has_another_version_when_its_windows_are_others() {
    let folder = TempDir::new().unwrap();
    let mut windows = Vec::new();
    for case in CASES {
        let lines: String =
            expected(case).iter().map(|text| format!("{}\n", serde_json::json!({"text": text["text"]}))).collect();
        fs::write(folder.path().join("texts.jsonl"), lines).unwrap();
        for special_tokens in [SpecialTokens::Plain, SpecialTokens::Parse] {
            let config = DatasetConfig { special_tokens, ..DatasetConfig::at(&folder.path().join("texts.jsonl")) };
            let dataset = TextDataset::load(&config, &load(&golden(case)).0, 12).unwrap();
            windows.push(dataset.fingerprint().to_string());
        }
    }
    let hash = logitcask_core::Fingerprint::of(windows.concat().as_bytes()).short();
    assert_eq!((crate::TOKENISATION_VERSION, hash.as_str()), (1, "2138930c"));
}
