use super::*;
use std::fs;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(name)
}

/// The tokenizer of a case of `data/golden/tokenizers`, as the package `gguf` wrote it.
fn open(case: &str) -> TextTokenizer {
    TextTokenizer::from_gguf(&golden(&format!("gguf/tokenizer-{case}.gguf"))).unwrap()
}

#[test]
fn ids_are_those_of_the_tokenizer_it_was_made_from() {
    for (case, bos, end, size) in
        [("llama3", Some(360), 364, 365), ("qwen", None, 362, 365), ("llama2", Some(1), 2, 343)]
    {
        let tokenizer = open(case);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (bos, Some(end)), "{case}");
        // Two more are unused: their rows of the head belong to no token.
        assert_eq!(tokenizer.vocab_size(), size, "{case}");
        let expected = fs::read(golden(&format!("tokenizers/{case}/expected.json"))).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let texts = expected["texts"].as_array().unwrap();
        assert_eq!(texts.len(), 10);
        for text in texts {
            let ids: Vec<u32> =
                bos.into_iter().chain(tokenizer.parsing().encode(text["text"].as_str().unwrap()).unwrap()).collect();
            // Where the two versions of transformers disagree, what the file itself says is right.
            let wanted = if text["auto"] == text["auto_v4"] { "auto" } else { "raw" };
            assert_eq!(json!(ids), text[wanted], "{case}: {}", text["text"]);
        }
    }
    let qwen = open("qwen");
    assert_eq!(qwen.decode(&qwen.encode("<think> naïve 1234\n").unwrap()).unwrap(), "<think> naïve 1234\n");
    assert!(qwen.spelled_out("<think>").is_none() && qwen.spelled_out("<|im_start|>").is_some());
}

#[test]
fn templates_and_special_tokens_are_those_of_the_folder_it_was_made_from() {
    for case in ["llama3", "qwen"] {
        let folder = crate::ChatFiles::in_folder(&golden(&format!("tokenizers/{case}"))).unwrap();
        let tokenizer = open(case);
        let found = tokenizer.chat_files();
        assert!(found.default_template().is_some(), "{case}");
        assert_eq!(found.default_template(), folder.default_template(), "{case}");
        let in_folder: Vec<_> =
            folder.special_tokens().filter(|(name, _)| ["bos_token", "eos_token"].contains(name)).collect();
        assert_eq!(found.special_tokens().collect::<Vec<_>>(), in_folder, "{case}");
    }
    assert_eq!(open("llama2").chat_files().default_template(), None);
}

/// A cache is identified by this text among others, so that it must stay what it is.
#[test]
fn the_tokenizer_json_stays_the_same() {
    let found = ["llama3", "qwen", "llama2"].map(|case| open(case).fingerprint().to_string());
    assert_eq!(
        found,
        [
            "3cb9a3737af6ae5e95cfbe5633c75841eee2187c87d5c120c7b509fff4ec0637",
            "c5fecd818f5d20a0eecabac062f6ba8abcac59cabefd735e8b94f17f4cf1b13a",
            "65d8be6e0ad2d05c1a7e8d94d0c8ba1e92151318b5c60f0855e50b05eb1815f8",
        ]
    );
}

/// Replaces a text in a file by one of the same length, and returns the error.
fn refused(case: &str, from: &str, to: &str) -> String {
    let mut bytes = fs::read(golden(&format!("gguf/tokenizer-{case}.gguf"))).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, bytes).unwrap();
    TextTokenizer::from_gguf(&path).unwrap_err().to_string()
}

#[test]
fn what_is_not_known_is_named() {
    for (from, to, part) in [
        ("qwen2", "qwen9", "by the rule `qwen9` (`tokenizer.ggml.pre`), and this build knows llama-bpe, qwen2, smollm"),
        ("gpt2", "bert", "of the kind `bert`"),
        ("tokenizer.ggml.pre", "tokenizer.ggml.prX", "key `tokenizer.ggml.pre`: it is missing"),
        ("tokenizer.ggml.merges", "tokenizer.ggml.mergeX", "key `tokenizer.ggml.merges`: it is missing"),
        ("token_type", "token_typX", "token_type"),
    ] {
        let error = refused("qwen", from, to);
        assert!(error.contains("a.gguf: ") && error.contains(part), "{from}: {error}");
    }
    let error = refused("llama3", "bos_token_id", "bos_token_iX");
    assert!(error.contains("every text needs its bos token"), "{error}");
}
