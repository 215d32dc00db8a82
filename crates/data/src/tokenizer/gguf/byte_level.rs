//! Byte-level BPE, with the merges in the file.

use super::{Parts, Problem, texts};
use logitcask_gguf::{GgufFile, Value as Gguf};
use serde_json::json;

/// The words of GPT-4 and the models after it, with groups of up to three digits or single ones.
const WORDS_AND_THREE_DIGITS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const WORDS_AND_DIGITS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a kind of tokenizer treats a text before merging.
struct Rules {
    /// Its name in `tokenizer.ggml.pre`.
    name: &'static str,
    normalizer: Option<&'static str>,
    cut: Cut,
    /// Whether a word that is a token is one without its merges.
    ignore_merges: bool,
    /// Whether a text starts with the start token if the file does not say.
    adds_bos: bool,
}

/// How a text is cut into words.
enum Cut {
    /// By this pattern.
    Pattern(&'static str),
    /// By GPT-2's pattern, after digits were cut off singly.
    Digits,
}

const RULES: [Rules; 3] = [
    Rules {
        name: "llama-bpe",
        normalizer: None,
        cut: Cut::Pattern(WORDS_AND_THREE_DIGITS),
        ignore_merges: true,
        adds_bos: true,
    },
    Rules {
        name: "qwen2",
        normalizer: Some("NFC"),
        cut: Cut::Pattern(WORDS_AND_DIGITS),
        ignore_merges: false,
        adds_bos: false,
    },
    Rules { name: "smollm", normalizer: None, cut: Cut::Digits, ignore_merges: false, adds_bos: false },
];

/// The parts of a byte-level tokenizer with this vocabulary.
pub(super) fn parts(file: &GgufFile, vocabulary: &impl serde::Serialize) -> Result<Parts, Problem> {
    let rules = rules(file)?;
    let pair = |(at, merge): (usize, &String)| match merge.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok([left.to_owned(), right.to_owned()]),
        _ => Err(format!("its merge {at} is {merge:?}, expected two pieces with a space between them")),
    };
    let merges = texts(file, "tokenizer.ggml.merges")?.iter().enumerate().map(pair);
    let merges = merges.collect::<Result<Vec<_>, String>>()?;
    let byte_level = |uses_pattern: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": uses_pattern});
    let words = match rules.cut {
        Cut::Pattern(pattern) => json!([
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]),
        Cut::Digits => json!([{"type": "Digits", "individual_digits": true}, byte_level(true)]),
    };
    Ok(Parts {
        normalizer: json!(rules.normalizer.map(|name| json!({"type": name}))),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": words}),
        plain_post_processor: json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true,
        }),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: json!({
            "type": "BPE", "fuse_unk": false, "byte_fallback": false, "ignore_merges": rules.ignore_merges,
            "vocab": vocabulary, "merges": merges,
        }),
        adds_bos: rules.adds_bos,
    })
}

/// The rules that the file names.
fn rules(file: &GgufFile) -> Result<&'static Rules, Problem> {
    let pre = file.required("tokenizer.ggml.pre", "the name of a rule that cuts texts into words", Gguf::as_text)?;
    RULES.iter().find(|rules| rules.name == pre).ok_or_else(|| {
        let known: Vec<&str> = RULES.iter().map(|rules| rules.name).collect();
        Problem::Other(format!(
            "its tokenizer cuts texts into words by the rule `{pre}` (`tokenizer.ggml.pre`), and this build knows {}; take \
             the Hugging Face folder that the file was made from",
            known.join(", ")
        ))
    })
}
