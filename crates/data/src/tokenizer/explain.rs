//! Readable explanations of why a `tokenizer.json` cannot be read; the library only names the Rust type that did not
//! match.

use serde_json::Value;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

/// The library that reads the file, so that users can look for a version that supports more.
const LIBRARY: &str = "tokenizers 0.23";

/// A part of the file: its key, the key of a sequence's members, the supported types, and how to parse one.
struct Part {
    key: &'static str,
    members: &'static str,
    types: &'static [&'static str],
    read: fn(Value) -> serde_json::Result<()>,
}

const PARTS: [Part; 5] = [
    Part {
        key: "normalizer",
        members: "normalizers",
        types: &[
            "BertNormalizer",
            "ByteLevel",
            "Lowercase",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Nmt",
            "Precompiled",
            "Prepend",
            "Replace",
            "Sequence",
            "Strip",
            "StripAccents",
        ],
        read: |part| serde_json::from_value::<NormalizerWrapper>(part).map(drop),
    },
    Part {
        key: "pre_tokenizer",
        members: "pretokenizers",
        types: &[
            "BertPreTokenizer",
            "ByteLevel",
            "Delimiter",
            "Digits",
            "FixedLength",
            "Metaspace",
            "Punctuation",
            "Sequence",
            "Split",
            "UnicodeScripts",
            "Whitespace",
            "WhitespaceSplit",
        ],
        read: |part| serde_json::from_value::<PreTokenizerWrapper>(part).map(drop),
    },
    Part {
        key: "post_processor",
        members: "processors",
        types: &["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"],
        read: |part| serde_json::from_value::<PostProcessorWrapper>(part).map(drop),
    },
    Part {
        key: "decoder",
        members: "decoders",
        types: &[
            "BPEDecoder",
            "ByteFallback",
            "ByteLevel",
            "CTC",
            "Fuse",
            "Metaspace",
            "Replace",
            "Sequence",
            "Strip",
            "WordPiece",
        ],
        read: |part| serde_json::from_value::<DecoderWrapper>(part).map(drop),
    },
    Part {
        key: "model",
        members: "",
        types: &["BPE", "Unigram", "WordLevel", "WordPiece"],
        read: |part| serde_json::from_value::<ModelWrapper>(part).map(drop),
    },
];

/// Explains the error in a file that the library rejected with the message `words`.
pub(super) fn explain(bytes: &[u8], words: &str) -> String {
    let mut file = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(file)) => file,
        Ok(_) => return "it holds no JSON object".to_owned(),
        Err(e) => return format!("it is not JSON: {e}"),
    };
    for part in &PARTS {
        match file.remove(part.key) {
            None | Some(Value::Null) if part.key == "model" => return "it has no `model`".to_owned(),
            None | Some(Value::Null) => {}
            Some(value) => {
                if let Some(problem) = part.problem(value) {
                    return problem;
                }
            }
        }
    }
    words.to_owned()
}

impl Part {
    /// Returns `None` for a part that can be read.
    fn problem(&self, value: Value) -> Option<String> {
        let words = (self.read)(value.clone()).err()?.to_string();
        // In a sequence, finds the invalid member.
        if let Some(members) = value.get(self.members).and_then(Value::as_array)
            && let Some(problem) = members.iter().find_map(|member| self.problem(member.clone()))
        {
            return Some(problem);
        }
        let key = self.key;
        let Some(kind) = value.get("type").and_then(Value::as_str) else {
            return Some(format!("its {key} has no `type`"));
        };
        if !self.types.contains(&kind) {
            return Some(format!(
                "{key} of type `{kind}` is unknown to this build ({LIBRARY}); use a newer build, or a tokenizer that an older library wrote"
            ));
        }
        if let Some(at) = half_a_merge(&value) {
            return Some(format!("{key} of type `{kind}`: merge {at} is half a merge, expected two pieces"));
        }
        // Names of Rust types are meaningless to users.
        let reason =
            if words.contains("did not match any variant") { "its fields are not what that type has" } else { &words };
        Some(format!("{key} of type `{kind}` cannot be read: {reason}"))
    }
}

/// Index of the first merge of a BPE model that does not name two pieces.
fn half_a_merge(model: &Value) -> Option<usize> {
    let is_pair = |merge: &Value| match merge {
        Value::String(pair) => pair.split(' ').count() == 2,
        Value::Array(pair) => pair.len() == 2 && pair.iter().all(Value::is_string),
        _ => false,
    };
    model.get("merges")?.as_array()?.iter().position(|merge| !is_pair(merge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(file: &Value) -> String {
        explain(file.to_string().as_bytes(), "the library's own words")
    }

    #[test]
    fn the_part_and_its_type_are_named() {
        let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]});
        let unknown = json!({"type": "SplitByTime"});
        for (key, members) in [
            ("normalizer", "normalizers"),
            ("pre_tokenizer", "pretokenizers"),
            ("post_processor", "processors"),
            ("decoder", "decoders"),
        ] {
            let mut file = json!({"model": model});
            file[key] = unknown.clone();
            let alone = told(&file);
            file[key] = json!({"type": "Sequence", members: [{"type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true}, unknown]});
            assert_eq!(told(&file), alone, "{key}");
            let expected = format!("{key} of type `SplitByTime` is unknown to this build (tokenizers 0.23)");
            assert!(alone.starts_with(&expected), "{alone}");
        }
        let template = json!({"model": model, "post_processor": {"type": "TemplateProcessing"}});
        assert_eq!(
            told(&template),
            "post_processor of type `TemplateProcessing` cannot be read: its fields are not what that type has"
        );
        let mut half = model.clone();
        half["merges"] = json!([["a", "b"], ["ab"]]);
        assert_eq!(told(&json!({"model": half})), "model of type `BPE`: merge 1 is half a merge, expected two pieces");
        half["merges"] = json!([["a", "c"]]);
        assert!(told(&json!({"model": half})).starts_with("model of type `BPE` cannot be read: "));
        assert_eq!(told(&json!({"normalizer": null})), "it has no `model`");
        assert_eq!(
            told(&json!({"model": {"type": "Diffusion"}})).split(';').next().unwrap(),
            "model of type `Diffusion` is unknown to this build (tokenizers 0.23)"
        );
        assert_eq!(told(&json!([])), "it holds no JSON object");
        assert!(explain(b"{", "").starts_with("it is not JSON: EOF"));
    }

    #[test]
    fn the_library_that_is_named_is_the_one_in_use() {
        let lock = include_str!("../../../../Cargo.lock");
        let version = LIBRARY.strip_prefix("tokenizers ").unwrap();
        assert!(lock.contains(&format!("name = \"tokenizers\"\nversion = \"{version}.")), "{LIBRARY}");
    }
}
