use super::*;
use crate::source::write_corpus;
use crate::tokenizer::train_byte_level_bpe;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

/// 256 bytes and one special token, no merges: token = byte's place in the alphabet, easy to count by hand.
static BYTES: LazyLock<TextTokenizer> =
    LazyLock::new(|| train_byte_level_bpe(["a".to_owned()].into_iter(), 257).unwrap());

fn tokenizer(bos: Option<u32>, end: Option<u32>) -> TextTokenizer {
    TextTokenizer::from_json_bytes(&BYTES.to_json().unwrap(), bos, end).unwrap()
}

fn config(path: &Path) -> DatasetConfig {
    let split_column = Some("split".into());
    DatasetConfig { path: path.into(), text_column: "text".into(), split_column, held_out: 0.0, max_documents: None }
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
    assert_eq!(dataset.sample("train", SampleId(2)), None);
    assert_eq!(dataset.sample("nowhere", SampleId(0)), None);
    assert_eq!((dataset.len("nowhere"), dataset.tokens("nowhere"), dataset.documents("nowhere")), (0, 0, 0));
    assert_eq!(dataset.name(), "stories");
    let seen: &dyn Dataset = &dataset;
    assert_eq!((seen.splits(), seen.max_length(), seen.name()), (found, 8, "stories"));
    assert_eq!(seen.sample("zoo", SampleId(0)), dataset.sample("zoo", SampleId(0)));
    assert_eq!(seen.fingerprint(), dataset.fingerprint());
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
