use super::*;
use std::io::Write;
use tempfile::NamedTempFile;

/// Ordinary pieces of the synthetic tokenizer, best first; scores are minus the rank. Letters come last, as in real ones.
const PIECES: [&str; 24] = [
    " t", "he", " the", "in", " a", "ab", "aba", "ba", "  ", "é", "ing", "th", "thing", " ", "t", "h", "e", "i", "n",
    "g", "a", "b", "s", "<",
];

/// A `tokenizer.bin` as an older export (bytes as characters) or a newer one (`<0x41>`) writes it.
fn export(newer: bool) -> Vec<u8> {
    let mut pieces: Vec<(f32, String)> = ["<unk>", "\n<s>\n", "\n</s>\n"].map(|p| (0.0, p.into())).into();
    pieces.extend((0..=255u8).map(|b| (0.0, if newer { format!("<0x{b:02X}>") } else { char::from(b).to_string() })));
    pieces.extend(PIECES.iter().enumerate().map(|(rank, piece)| (-(rank as f32), piece.to_string())));
    let mut bytes = 27i32.to_le_bytes().to_vec();
    for (score, text) in pieces {
        bytes.extend(score.to_le_bytes());
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn load(bytes: &[u8], vocab_size: usize) -> Result<TextTokenizer> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    TextTokenizer::from_llama2c(file.path(), vocab_size as u32)
}

/// What llama2.c's `encode` does, quadratic and obvious: characters (or their bytes), then again and again the neighbours
/// whose joint piece scores highest, the leftmost of equals.
fn encode_naively(file: &[u8], vocab_size: usize, text: &str) -> Vec<u32> {
    let pieces = parse(file, vocab_size).unwrap();
    let known: HashMap<&[u8], u32> = pieces.iter().zip(0..).skip(FIRST_PIECE).map(|((_, b), id)| (*b, id)).collect();
    let mut ids = vec![];
    for c in format!(" {text}").chars() {
        match known.get(c.to_string().as_bytes()) {
            Some(&id) => ids.push(id),
            None => ids.extend(c.to_string().bytes().map(|byte| u32::from(byte) + FIRST_BYTE as u32)),
        }
    }
    loop {
        let mut best: Option<(f32, usize, u32)> = None;
        for at in 1..ids.len() {
            let [left, right] = [ids[at - 1], ids[at]].map(|id| id as usize);
            if left.min(right) < FIRST_PIECE {
                continue;
            }
            if let Some(&id) = known.get(&[pieces[left].1, pieces[right].1].concat()[..])
                && best.is_none_or(|(score, ..)| pieces[id as usize].0 > score)
            {
                best = Some((pieces[id as usize].0, at - 1, id));
            }
        }
        let Some((_, at, id)) = best else { return ids };
        ids[at] = id;
        ids.remove(at + 1);
    }
}

const VOCAB: usize = FIRST_PIECE + PIECES.len();

#[test]
fn both_exports_are_the_same_tokenizer() {
    let [older, newer] = [false, true].map(|newer| load(&export(newer), VOCAB).unwrap());
    assert_eq!(older.json(), newer.json());
    assert_eq!(older.fingerprint(), newer.fingerprint());
    assert_eq!((older.vocab_size(), older.bos(), older.eos()), (VOCAB as u32, Some(1), Some(1)));
    let shown = [1, 13, 68, 259, 268].map(|id| older.token_text(id));
    assert_eq!(shown, ["<s>", "<0x0A>", "<0x41>", "␣t", "é"]);
}

#[test]
fn synthetic_encodings_by_hand_and_by_the_naive_rule() {
    let tokenizer = load(&export(false), VOCAB).unwrap();
    let id = |piece: &str| (FIRST_PIECE + PIECES.iter().position(|p| *p == piece).unwrap()) as u32;
    // "th" of "thing" is worse than "in" and "ing" and comes after them.
    assert_eq!(tokenizer.encode("the thing").unwrap(), [id(" the"), id(" t"), id("h"), id("ing")]);
    // A letter is the ordinary piece, never the byte of the same spelling; the line feed and `ß` have only bytes.
    assert_eq!(tokenizer.encode("a\nß").unwrap(), [id(" a"), 3 + 0x0a, 3 + 0xc3, 3 + 0x9f]);
    assert_eq!(tokenizer.encode("").unwrap(), [0; 0]);
    // The unknown, start and end tokens spelled out are characters.
    let spelled = tokenizer.encode("<s>").unwrap();
    assert_eq!(spelled, [id(" "), id("<"), id("s"), 3 + u32::from(b'>')]);

    let file = export(true);
    for text in
        ["the thing in a ba", "ababababa abab", "a   the      thing", "éé ing\nße 🦀", "<s>the</s>", "   ", "ababa"]
    {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, encode_naively(&file, VOCAB, text), "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn broken_files_say_where() {
    let good = export(false);
    let twice = [&good[..good.len() - 1], b"s"].concat();
    let mut wrong_byte = good.clone();
    let at = good.windows(9).position(|w| w == b"\0\0\0\0\x01\0\0\0A").unwrap() + 8;
    wrong_byte[at] = b'B';
    for (bytes, vocab_size, message) in [
        (&good[..2], VOCAB, "ends before its first piece"),
        (&good[..], VOCAB + 1, "piece 283 at byte "),
        (&good[..good.len() - 1], VOCAB, "goes past the end of the file"),
        (&good[..], VOCAB - 1, "9 bytes are left over"),
        (&wrong_byte[..], VOCAB, "piece 68 is [42], expected byte 41"),
        (&twice[..], VOCAB, "are both \"s\""),
        (&[0; 4][..], 0, "more than 259 pieces"),
    ] {
        let error = load(bytes, vocab_size).unwrap_err().to_string();
        assert!(error.contains("not a llama2.c tokenizer of ") && error.contains(message), "{error}");
    }
}

/// Tokens that the reference forward pass of stories15M was given, the start token left out.
const STORY: [u32; 63] = [
    9038, 2501, 263, 931, 29892, 727, 471, 263, 2217, 7826, 4257, 365, 2354, 29889, 3118, 2462, 29892, 365, 2354, 5131,
    304, 1207, 263, 274, 1296, 363, 902, 16823, 1357, 29915, 29879, 12060, 3250, 29889, 2296, 4433, 902, 16823, 1357,
    29892, 376, 6028, 591, 1207, 263, 274, 1296, 3026, 2439, 16823, 1357, 1497, 29892, 376, 29903, 545, 29892, 591,
    508, 1207, 263, 274, 1296,
];

/// Runs where the fetched model lies: its vocabulary is not part of the repository.
#[test]
fn stories15m_vocabulary_agrees_with_the_reference() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/models/stories15M/tokenizer.bin"));
    if !path.exists() {
        return;
    }
    let tokenizer = TextTokenizer::from_llama2c(path, 32_000).unwrap();
    let story = tokenizer.decode(&[&[1], &STORY[..]].concat()).unwrap();
    assert!(story.starts_with("Once upon a time, there was a little girl named L"), "{story}");
    assert_eq!(tokenizer.encode(&story).unwrap(), STORY);

    let file = std::fs::read(path).unwrap();
    for text in [
        "Lily and Tom went to the park. \"Look!\" said Tom, \"a big, red ball.\"\n\nThey played until 12:30.",
        "Ein Übungssatz mit ß, ein naïve café, 日本語 и русский текст 🦀.",
        "    indented      code\t{ x += 0x1F; }      aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ......... ----------------",
        "                                                          ",
        "<s>not a token</s> <unk> <0x0A>",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, encode_naively(&file, 32_000, text), "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
