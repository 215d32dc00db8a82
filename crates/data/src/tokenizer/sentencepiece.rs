//! What Hugging Face's converters make of SentencePiece vocabularies, whose pieces have scores and no list of merges.

use serde_json::{Value, json};
use std::collections::HashMap;

/// Every division of an ordinary piece into two others, ordered by highest score of the merged piece, then longest left
/// half, then lowest id: the order in which the converters write them. `pieces` have their score and text, in the order
/// of their ids.
pub(super) fn merges<'a>(pieces: &[(f32, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let scores: HashMap<&str, f32> = pieces.iter().map(|&(score, text)| (text, score)).collect();
    let mut merges = vec![];
    for &(score, text) in pieces {
        for (left_chars, (at, _)) in text.char_indices().enumerate().skip(1) {
            let (left, right) = text.split_at(at);
            if scores.contains_key(left) && scores.contains_key(right) {
                merges.push((score, left_chars, left, right));
            }
        }
    }
    // The sort is stable: remaining ties stay in the order of the ids.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    merges.into_iter().map(|(_, _, left, right)| (left, right)).collect()
}

/// The decoder; with a space in front of every text if the normaliser puts one there.
pub(super) fn decoder(has_space: bool) -> Value {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    decoders.extend(has_space.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0})));
    json!({"type": "Sequence", "decoders": decoders})
}

/// The normaliser, which writes spaces as `▁` and may put one in front of every text.
pub(super) fn normalizer(has_space: bool) -> Value {
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    if has_space {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
    }
    json!({"type": "Sequence", "normalizers": normalizers})
}
