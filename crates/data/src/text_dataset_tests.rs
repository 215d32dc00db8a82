use super::*;
use crate::source::{SpecialTokens, write_corpus};
use crate::tokenizer::train_byte_level_bpe;
use logitcask_core::PositionChoice;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

/// 256 bytes and one special token, no merges: token = byte's place in the alphabet, easy to count by hand.
static BYTES: LazyLock<TextTokenizer> =
    LazyLock::new(|| train_byte_level_bpe(["a".to_owned()].into_iter(), 257).unwrap());

fn tokenizer(bos: Option<u32>, end: Option<u32>) -> TextTokenizer {
    let mut json: serde_json::Value = serde_json::from_slice(BYTES.json()).unwrap();
    match bos {
        Some(bos) => json["post_processor"]["special_tokens"]["<|endoftext|>"]["ids"] = vec![bos].into(),
        None => json["post_processor"] = serde_json::Value::Null,
    }
    TextTokenizer::from_json_bytes(json.to_string().as_bytes(), &[], end).unwrap()
}

fn config(path: &Path) -> DatasetConfig {
    DatasetConfig { split_column: Some("split".into()), held_out: 0.0, ..DatasetConfig::at(path) }
}

/// A corpus in a folder that lives as long as the first value.
fn corpus(documents: &[(&str, &str)]) -> (TempDir, DatasetConfig) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stories.parquet");
    let documents: Vec<_> = documents.iter().map(|(text, split)| (text.to_string(), *split)).collect();
    write_corpus(&path, &documents).unwrap();
    (folder, config(&path))
}

fn samples(dataset: &TextDataset, split: &str) -> Vec<Sample> {
    (0..dataset.len(split)).map(|id| dataset.sample(split, SampleId(id)).unwrap()).collect()
}

#[test]
fn windows_by_hand() {
    let (_folder, config) = corpus(&[("abcd", "train"), ("ef", "train")]);
    let [a, b, c, d, e, f]: [u32; 6] = BYTES.encode("abcdef").unwrap().try_into().unwrap();
    let cut = |bos, end| {
        let dataset = TextDataset::load(&config, &tokenizer(bos, end), 3).unwrap();
        let samples = samples(&dataset, "train");
        assert!(samples.iter().zip(0..).all(|(sample, id)| sample.id == SampleId(id)));
        let cut: Vec<_> = samples.into_iter().map(|s| (s.origin.document, s.origin.offset, s.input_ids)).collect();
        (cut, dataset.documents("train"), dataset.tokens("train"))
    };
    let delimited = vec![
        (0, 0, vec![0, a, b]),
        (0, 2, vec![0, c, d]),
        (0, 4, vec![0, 0]),
        (1, 0, vec![0, e, f]),
        (1, 2, vec![0, 0]),
    ];
    assert_eq!(cut(Some(0), Some(0)), (delimited, 2, 8));
    let started = vec![(0, 0, vec![0, a, b]), (0, 2, vec![0, c, d]), (1, 0, vec![0, e, f])];
    assert_eq!(cut(Some(0), None), (started, 2, 6));
    let overlapping = vec![(0, 0, vec![a, b, c]), (0, 2, vec![c, d]), (1, 0, vec![e, f])];
    assert_eq!(cut(None, None), (overlapping, 2, 6));
    let ended = vec![(0, 0, vec![a, b, c]), (0, 2, vec![c, d, 0]), (1, 0, vec![e, f, 0])];
    assert_eq!(cut(None, Some(0)), (ended, 2, 8));
}

#[test]
fn splits_are_ordered_and_numbered_on_their_own() {
    let splits = ["zoo", "test", "train", "extra", "validation", "train"];
    let documents: Vec<_> = splits.iter().map(|split| ("abc", *split)).collect();
    let (_folder, config) = corpus(&documents);
    let dataset = TextDataset::load(&config, &BYTES, 8).unwrap();
    let found = dataset.splits();
    let expected = [("train", 2), ("validation", 1), ("test", 1), ("extra", 1), ("zoo", 1)];
    assert_eq!(found, expected.map(|(name, n)| (name.to_owned(), n)));
    // Documents count over all splits, samples within theirs.
    let train: Vec<_> = samples(&dataset, "train").iter().map(|s| (s.id.0, s.origin.document)).collect();
    assert_eq!(train, [(0, 2), (1, 5)]);
    for (split, id, samples) in [("train", 2, 2), ("train", 3, 2), ("train", u64::MAX, 2), ("nowhere", 0, 0)] {
        let length = dataset.length_of(split, SampleId(id)).map(drop);
        for result in [length, dataset.sample(split, SampleId(id)).map(drop)] {
            let message = format!(
                "split `{split}`, sample {id}: the dataset does not have it, it has {samples} samples of this split"
            );
            assert_eq!(result.unwrap_err().to_string(), message);
        }
    }
    let lengths: Vec<usize> = (0..2).map(|id| dataset.length_of("train", SampleId(id)).unwrap()).collect();
    assert_eq!(lengths, samples(&dataset, "train").iter().map(|s| s.input_ids.len()).collect::<Vec<_>>());
    let positions = samples(&dataset, "train").iter().map(|s| s.position_count() as u64).sum::<u64>();
    assert_eq!(dataset.positions("train", 0..2, &PositionChoice::All {}).unwrap(), positions);
    assert!(dataset.positions("train", 1..3, &PositionChoice::All {}).is_err());
    assert_eq!((dataset.len("nowhere"), dataset.tokens("nowhere"), dataset.documents("nowhere")), (0, 0, 0));
    assert_eq!(dataset.name(), "stories");
    let seen: &dyn Dataset = &dataset;
    assert_eq!((seen.splits(), seen.max_length(), seen.name()), (found, 8, "stories"));
}

#[test]
fn held_out_documents_stay_held_out_as_a_corpus_grows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stories.txt");
    let held_out = |documents: usize| {
        let blocks: Vec<_> = (0..documents).map(|i| format!("story {i}")).collect();
        fs::write(&path, blocks.join("\n\n")).unwrap();
        let config = DatasetConfig { split_column: None, held_out: 0.2, ..config(&path) };
        let dataset = TextDataset::load(&config, &BYTES, 64).unwrap();
        assert_eq!(dataset.len("train") + dataset.len("test"), documents as u64);
        samples(&dataset, "test").iter().map(|sample| sample.origin.document).collect::<BTreeSet<_>>()
    };
    let (few, many) = (held_out(400), held_out(2000));
    assert!(few.is_subset(&many) && many.iter().filter(|&&document| document < 400).count() == few.len());
    // Five standard deviations of a binomial share: sqrt(.2 * .8 / 2000) = .009.
    assert!((many.len() as f64 / 2000.0 - 0.2).abs() < 0.045, "{}", many.len());
}

#[test]
fn loads_agree_and_any_change_shows_in_the_fingerprint() {
    let documents: Vec<(String, &str)> = (0..300).map(|i| (format!("story number {i}"), "train")).collect();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stories.parquet");
    let load = |documents: &[(String, &str)], tokenizer: &TextTokenizer, max_length| {
        write_corpus(&path, documents).unwrap();
        TextDataset::load(&config(&path), tokenizer, max_length).unwrap()
    };
    let first = load(&documents, &BYTES, 8);
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| load(&documents, &BYTES, 8));
        assert_eq!(again.fingerprint(), first.fingerprint());
        assert_eq!(samples(&again, "train"), samples(&first, "train"));
    }
    let change = |f: fn(&mut Vec<(String, &str)>)| {
        let mut changed = documents.clone();
        f(&mut changed);
        changed
    };
    let mut seen = BTreeSet::from([first.fingerprint()]);
    assert!(seen.insert(load(&change(|d| d[7].0.push('!')), &BYTES, 8).fingerprint()), "text");
    assert!(seen.insert(load(&change(|d| d.swap(3, 4)), &BYTES, 8).fingerprint()), "order");
    assert!(seen.insert(load(&change(|d| d[3].1 = "test"), &BYTES, 8).fingerprint()), "split");
    assert!(seen.insert(load(&change(|d| d.insert(0, (" ".into(), "train"))), &BYTES, 8).fingerprint()), "index");
    assert!(seen.insert(load(&documents, &BYTES, 9).fingerprint()), "max_length");
    assert!(seen.insert(load(&documents, &tokenizer(Some(0), None), 8).fingerprint()), "end token");
    assert!(seen.insert(load(&documents, &tokenizer(Some(1), Some(0)), 8).fingerprint()), "start token");
}

#[test]
fn validation_is_held_out_without_moving_test() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stories.txt");
    fs::write(&path, (0..2000).map(|i| format!("story {i}")).collect::<Vec<_>>().join("\n\n")).unwrap();
    let documents = |held_out, held_out_validation| {
        let config = DatasetConfig { split_column: None, held_out, held_out_validation, ..config(&path) };
        let dataset = TextDataset::load(&config, &BYTES, 64).unwrap();
        assert_eq!(dataset.splits_from(), SplitsFrom::Hash);
        ["train", "validation", "test"]
            .map(|split| samples(&dataset, split).iter().map(|sample| sample.origin.document).collect::<BTreeSet<_>>())
    };
    let [before, none, test_before] = documents(0.05, 0.0);
    let [train, validation, test] = documents(0.05, 0.1);
    assert!(none.is_empty() && test == test_before);
    assert_eq!(before, &train | &validation);
    assert!((validation.len() as f64 / 2000.0 - 0.1).abs() < 0.034, "five standard deviations: {}", validation.len());
    assert_eq!(documents(0.2, 0.1)[1], validation, "a larger test split takes none of it");
    assert_eq!(documents(0.5, 0.5)[0].len(), 0);
}

#[test]
fn validation_is_taken_from_train_where_others_are_named() {
    let documents: Vec<_> = (0..400).map(|i| (format!("story {i}"), if i < 300 { "train" } else { "test" })).collect();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stories.parquet");
    let load = |documents: &[(String, &str)]| {
        write_corpus(&path, documents).unwrap();
        TextDataset::load(&DatasetConfig { held_out: 0.5, held_out_validation: 0.2, ..config(&path) }, &BYTES, 64)
    };
    let dataset = load(&documents).unwrap();
    assert_eq!((dataset.splits_from(), dataset.len("test")), (SplitsFrom::Column, 100));
    assert!((40..80).contains(&dataset.len("validation")));
    let named = [documents, vec![("one".to_owned(), "validation")]].concat();
    let error = load(&named).unwrap_err().to_string();
    assert_eq!(error, "`held_out_validation` is 0.2, expected none, for the data name a split `validation` themselves");
}

#[test]
fn the_fingerprint_is_what_its_definition_says() {
    let (_folder, config) = corpus(&[("ab", "train"), ("c", "test"), (" ", "train"), ("defg", "train")]);
    let dataset = TextDataset::load(&config, &BYTES, 4).unwrap();
    let mut bytes = 4_u64.to_le_bytes().to_vec();
    for split in ["train", "test"] {
        bytes.extend((split.len() as u64).to_le_bytes());
        bytes.extend(split.as_bytes());
        bytes.extend(dataset.len(split).to_le_bytes());
        for sample in samples(&dataset, split) {
            bytes.extend(sample.origin.document.to_le_bytes());
            bytes.extend(sample.origin.offset.to_le_bytes());
            bytes.extend(sample.input_hash().0);
        }
    }
    assert_eq!(
        dataset.fingerprint(),
        blake3::Hash::from_bytes(blake3::derive_key("logitcask dataset v2", &bytes)).into()
    );
    // Written down: another one would be another cache for everybody.
    assert_eq!(dataset.fingerprint().to_string(), "9b2e5d4d771bf3b02294f087e6822ab0a9f5f6c69cd982525e2f1e2156d41e41");
}

#[test]
fn names_and_the_tokenizers_file_are_no_part_of_the_fingerprint() {
    let (folder, config) = corpus(&[("abc", "train"), ("def", "test")]);
    let first = TextDataset::load(&config, &BYTES, 8).unwrap();
    let renamed = folder.path().join("other.parquet");
    fs::rename(&config.path, &renamed).unwrap();
    let json: serde_json::Value = serde_json::from_slice(BYTES.json()).unwrap();
    let pretty = serde_json::to_string_pretty(&json).unwrap();
    let same = TextTokenizer::from_json_bytes(pretty.as_bytes(), &[], Some(0)).unwrap();
    assert_ne!(same.fingerprint(), BYTES.fingerprint());
    let second = TextDataset::load(&DatasetConfig { path: renamed, ..config }, &same, 8).unwrap();
    assert_eq!(second.fingerprint(), first.fingerprint());
    assert_ne!(second.name(), first.name());
}

#[test]
fn special_tokens_in_texts_are_refused_kept_as_text_or_parsed() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jsonl"), "{\"text\": \"one\"}\n{\"text\": \"two\"}\n").unwrap();
    fs::write(folder.path().join("b.jsonl"), "{\"text\": \"\"}\n{\"text\": \"é: <|endoftext|> <|endoftext|>\"}\n")
        .unwrap();
    let load = |special_tokens| {
        let config = DatasetConfig { split_column: None, special_tokens, ..config(folder.path()) };
        TextDataset::load(&config, &BYTES, 64)
    };
    let error = load(SpecialTokens::Refuse).unwrap_err().to_string();
    let expected = "b.jsonl: document 1 (counted from 0) spells out the special token `<|endoftext|>` (0) at character 3; set `special_tokens` to \"parse\"";
    assert!(error.contains(expected), "{error}");
    let last = |rule| samples(&load(rule).unwrap(), "train").pop().unwrap().input_ids;
    let text = BYTES.encode("é: ").unwrap();
    let parsed = last(SpecialTokens::Parse);
    assert_eq!(parsed, [&[0], &text[..], &[0], &BYTES.encode(" ").unwrap(), &[0, 0]].concat());
    let plain = last(SpecialTokens::Plain);
    assert_eq!(plain.iter().filter(|id| **id == 0).count(), 2, "only those that start and end the text");
    let names = [SpecialTokens::Refuse, SpecialTokens::Plain, SpecialTokens::Parse].map(|rule| serde_json::json!(rule));
    assert_eq!(names, ["refuse", "plain", "parse"]);
}

#[test]
fn what_became_of_texts_is_said() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"a\\ud83d\"}\n{\"text\": \" \"}\n{\"text\": \"bc\"}\n").unwrap();
    let config = DatasetConfig { split_column: None, on_bad_text: crate::OnBadText::Skip, ..config(&path) };
    let dataset = TextDataset::load(&config, &BYTES, 8).unwrap();
    let path = path.display();
    assert_eq!(
        dataset.notes(),
        [
            format!("{path}: 1 text of 3 is no Unicode and was left out"),
            format!("{path}: 1 text of 3 is blank and was left out")
        ]
    );
    assert_eq!(samples(&dataset, "train")[0].origin.document, 2, "the others keep their numbers");
}

#[test]
fn a_longer_limit_than_any_document_is_still_pinned() {
    let (_folder, config) = corpus(&[("abc", "train")]);
    let [short, long] = [50, 60].map(|max_length| TextDataset::load(&config, &BYTES, max_length).unwrap());
    assert_eq!(samples(&short, "train"), samples(&long, "train"));
    assert_ne!(short.fingerprint(), long.fingerprint());
}

#[test]
fn what_gives_no_sample_is_refused() {
    let (_folder, config) = corpus(&[("a", "train"), ("b", "test")]);
    let error = TextDataset::load(&config, &tokenizer(None, None), 8).unwrap_err().to_string();
    assert!(error.contains("stories.parquet: its 2 documents give no sample; a sample needs two tokens"), "{error}");
    let error = TextDataset::load(&config, &BYTES, 1).unwrap_err().to_string();
    assert_eq!(error, "`max_length` is 1, expected at least 2 tokens");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn windows_give_back_every_document(
        texts in proptest::collection::vec("[a-zé \n]{0,40}", 1..6),
        max_length in 2usize..20,
        bos in proptest::option::of(Just(0u32)),
        end in proptest::option::of(Just(0u32)),
    ) {
        let documents: Vec<_> = texts.iter().map(|text| (text.as_str(), "train")).collect();
        let (_folder, config) = corpus(&documents);
        let tokenizer = tokenizer(bos, end);
        let loaded = TextDataset::load(&config, &tokenizer, max_length);
        let mut expected = vec![];
        for (document, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let mut tokens = tokenizer.encode(text).unwrap();
            tokens.extend(end);
            if tokens.len() + usize::from(bos.is_some()) >= 2 {
                expected.push((document as u64, tokens));
            }
        }
        let Ok(dataset) = loaded else { prop_assert!(expected.is_empty()); return Ok(()) };
        let mut rebuilt: Vec<(u64, Vec<u32>)> = vec![];
        for sample in samples(&dataset, "train") {
            prop_assert!((2..=max_length).contains(&sample.input_ids.len()));
            if sample.origin.offset == 0 {
                rebuilt.push((sample.origin.document, vec![]));
            }
            let (document, tokens) = rebuilt.last_mut().unwrap();
            prop_assert_eq!(*document, sample.origin.document);
            let own = match bos {
                Some(bos) => {
                    prop_assert_eq!(sample.input_ids[0], bos);
                    prop_assert_eq!(tokens.len(), sample.origin.offset as usize);
                    &sample.input_ids[1..]
                }
                // The token at which two windows overlap is the earlier one's own.
                None if sample.origin.offset > 0 => {
                    prop_assert_eq!(tokens.len(), sample.origin.offset as usize + 1);
                    prop_assert_eq!(tokens.last(), sample.input_ids.first());
                    &sample.input_ids[1..]
                }
                None => &sample.input_ids[..],
            };
            tokens.extend_from_slice(own);
        }
        prop_assert_eq!(rebuilt, expected);
    }
}
