//! Training of a small tokenizer on a corpus.

use super::TextTokenizer;
use crate::error::{Error, Result};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The only special token of a trained tokenizer: id 0, before and after every document.
const END_OF_TEXT: &str = "<|endoftext|>";
/// The special token and one piece for each byte.
const SMALLEST: u32 = 257;

/// Trains a byte-level BPE tokenizer with exactly `vocab_size` pieces: `<|endoftext|>` (id 0, start and end of a
/// document), the 256 bytes, then merges, most frequent first, with ties to the lower ids. The same texts give the same
/// tokenizer, and it encodes any text without loss.
///
/// # Errors
/// A `vocab_size` below 257, or texts with too few different pairs to fill it.
pub fn train_byte_level_bpe(texts: impl Iterator<Item = String>, vocab_size: u32) -> Result<TextTokenizer> {
    if vocab_size < SMALLEST {
        let expected = "at least 257: one special token and 256 bytes";
        return Err(Error::Option { option: "vocab_size", got: vocab_size.to_string(), expected });
    }
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true))).with_decoder(Some(ByteLevel::default()));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size as usize)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build()
        .into();
    // The trainer needs an iterator that it can share among threads.
    let texts: Vec<String> = texts.collect();
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(Error::tokenizer)?;

    let mut template = TemplateProcessing::builder();
    template.try_single(format!("{END_OF_TEXT} $A")).map_err(Error::tokenizer)?;
    template.try_pair(format!("{END_OF_TEXT} $A {END_OF_TEXT}:1 $B:1")).map_err(Error::tokenizer)?;
    let template = template.special_tokens(vec![(END_OF_TEXT, 0)]).build().map_err(Error::tokenizer)?;
    tokenizer.with_post_processor(Some(template));

    let json = tokenizer.to_string(false).map_err(Error::tokenizer)?;
    let trained = TextTokenizer::from_json_bytes(json.as_bytes(), &[], Some(0))?;
    if trained.vocab_size() != vocab_size {
        return Err(Error::TooFewPieces { expected: vocab_size, got: trained.vocab_size() });
    }
    Ok(trained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    const TEXT: &str = "Once upon a time there was a little girl. She liked to play with her little dog.\n\
        One day the little dog ran away, and the little girl was sad. \u{201c}Where are you?\u{201d} she said.";
    static TOKENIZER: LazyLock<TextTokenizer> = LazyLock::new(|| train(300));

    fn train(vocab_size: u32) -> TextTokenizer {
        train_byte_level_bpe([TEXT, "the end"].into_iter().map(String::from), vocab_size).unwrap()
    }

    #[test]
    fn size_is_exact_and_training_deterministic() {
        for vocab_size in [257, 258, 300] {
            let tokenizer = train(vocab_size);
            assert_eq!(tokenizer.vocab_size(), vocab_size);
            let json: serde_json::Value = serde_json::from_slice(tokenizer.json()).unwrap();
            assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), vocab_size as usize);
            for _ in 0..3 {
                assert_eq!(train(vocab_size).json(), tokenizer.json());
            }
        }
        let ids = TOKENIZER.encode(TEXT).unwrap();
        assert!(ids.len() < TEXT.len() && ids.iter().any(|&id| id >= SMALLEST), "no merge is in use");
    }

    #[test]
    fn special_token_starts_and_ends_documents_and_nothing_else() {
        assert_eq!((TOKENIZER.bos(), TOKENIZER.eos()), (Some(0), Some(0)));
        assert_eq!(TOKENIZER.token_text(0), END_OF_TEXT);
        let spelled = TOKENIZER.encode("a<|endoftext|>b").unwrap();
        assert!(!spelled.contains(&0), "{spelled:?}");
        assert_eq!(TOKENIZER.decode(&spelled).unwrap(), "a<|endoftext|>b");
        assert_eq!(TOKENIZER.decode(&[0, spelled[0], 0]).unwrap(), "a");
    }

    #[test]
    fn impossible_sizes_say_why() {
        let small = train_byte_level_bpe([TEXT.to_owned()].into_iter(), 256).unwrap_err().to_string();
        assert_eq!(small, "`vocab_size` is 256, expected at least 257: one special token and 256 bytes");
        let large = train_byte_level_bpe(["ab ab".to_owned()].into_iter(), 1000).unwrap_err().to_string();
        assert!(large.starts_with("the texts give 259 pieces, not 1000; train on more text"), "{large}");
    }

    proptest! {
        #[test]
        fn any_text_survives(chars in proptest::collection::vec(any::<char>(), 0..60), words in "[a-z \n<|>]{0,40}") {
            for text in [chars.iter().collect::<String>(), words] {
                let ids = TOKENIZER.encode(&text).unwrap();
                prop_assert!(ids.iter().all(|&id| (1..300).contains(&id)));
                prop_assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
            }
        }
    }
}
