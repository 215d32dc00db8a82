use super::*;
use logitcask_model::{Device, Model, Precision, PretrainedModel, Sequences};
use std::path::{Path, PathBuf};

/// Tokens of the longest text.
const LENGTH: usize = 24;

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/families");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 15);
    folders
}

fn open(folder: &Path) -> Model {
    let files = PretrainedModel::open(folder).unwrap();
    assert!(files.config().max_position_embeddings() >= LENGTH, "{}", folder.display());
    files.for_texts_of(LENGTH).load(&Device::flex(), Precision::F32).unwrap()
}

/// Beginnings of different lengths.
fn prompts(classes: usize) -> Vec<Vec<u32>> {
    let token = |text: usize, at: usize| ((text * 31 + at * 17 + 3) % classes) as u32;
    [5, 1, 12, 9, 5, 2]
        .iter()
        .enumerate()
        .map(|(text, &length)| (0..length).map(|at| token(text, at)).collect())
        .collect()
}

fn beginning(prompt: &[u32], stream: u64) -> Beginning<'_> {
    Beginning { tokens: prompt, rng: CounterRng::new("test", &[stream]), most: LENGTH - prompt.len() }
}

fn generator<'a>(model: &'a Model, temperature: f64, ends: &'a [u32]) -> Generator<'a, Model> {
    let sampling = Sampling { temperature, top_p: 0.95 };
    Generator { model, sampling, ends, classes: model.vocab_size() }
}

/// The largest logit after each text, from whole passes without a cache.
fn greedy(model: &Model, prompt: &[u32]) -> Vec<u32> {
    let mut text = prompt.to_vec();
    while text.len() < LENGTH {
        let n = text.len();
        let tokens: Vec<i64> = text.iter().map(|&token| i64::from(token)).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, n]), &model.device());
        let last = Tensor::<1, Int>::from_data([n as i64 - 1], &model.device());
        let logits = model.head().logits(model.hidden_at(tokens, &Sequences::in_rows(1, n), last));
        let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
        let larger = |best: (u32, f32), (id, &z): (u32, &f32)| if z > best.1 { (id, z) } else { best };
        text.push((0..).zip(&logits).fold((0, f32::NEG_INFINITY), larger).0);
    }
    text.split_off(prompt.len())
}

#[test]
fn texts_of_all_families_are_the_same_together_alone_and_without_a_cache() {
    for folder in families() {
        let (model, what) = (open(&folder), folder.display());
        let prompts = prompts(model.vocab_size());
        // An end token that some of the texts meet.
        let unended = generator(&model, 0.0, &[]).generate(&[beginning(&prompts[0], 0)], &mut |_| true).unwrap();
        let ends = [unended[0].tokens[3], unended[0].tokens[6]];
        for temperature in [0.0, 0.8] {
            let generator = generator(&model, temperature, &ends);
            let all: Vec<Beginning<'_>> = prompts.iter().zip(0..).map(|(prompt, i)| beginning(prompt, i)).collect();
            let together = generator.generate(&all, &mut |_| true).unwrap();
            for ((text, alone), prompt) in together.iter().zip(&all).zip(&prompts) {
                assert_eq!(*text, generator.generate(std::slice::from_ref(alone), &mut |_| true).unwrap()[0], "{what}");
                let (last, before) = text.tokens.split_last().unwrap();
                assert_eq!(text.is_finished, ends.contains(last), "{what}");
                assert!(before.iter().all(|token| !ends.contains(token)), "{what}");
                assert!(text.is_finished || text.tokens.len() == LENGTH - prompt.len(), "{what}");
                if temperature == 0.0 {
                    assert_eq!(text.tokens, greedy(&model, prompt)[..text.tokens.len()], "{what}");
                }
            }
        }
    }
}

#[test]
fn texts_end_at_any_end_token_which_is_their_last() {
    let model = open(&families()[0]);
    let prompt = prompts(model.vocab_size()).remove(2);
    let write = |ends: &[u32]| {
        generator(&model, 0.0, ends).generate(&[beginning(&prompt, 0)], &mut |_| true).unwrap().remove(0)
    };
    let endless = write(&[]);
    assert!(!endless.is_finished && endless.text() == endless.tokens);
    for at in [0, 2, 5] {
        let end = endless.tokens[at];
        let first = endless.tokens.iter().position(|&token| token == end).unwrap();
        let text = write(&[u32::MAX, end]);
        assert!(text.is_finished);
        assert_eq!((&*text.tokens, text.text()), (&endless.tokens[..=first], &endless.tokens[..first]));
    }
}

#[test]
fn work_that_is_stopped_leaves_texts_as_they_are() {
    let model = open(&families()[0]);
    let prompts = prompts(model.vocab_size());
    let all: Vec<Beginning<'_>> = prompts.iter().map(|prompt| beginning(prompt, 0)).collect();
    let mut left = 3;
    let texts = generator(&model, 1.0, &[]).generate(&all, &mut |count| {
        assert_eq!(count, all.len());
        left -= 1;
        left > 0
    });
    assert!(texts.unwrap().iter().all(|text| text.tokens.len() == 2 && !text.is_finished));
    let none = [Beginning { most: 0, ..beginning(&prompts[0], 0) }];
    assert_eq!(generator(&model, 1.0, &[]).generate(&none, &mut |_| panic!()).unwrap(), [Continuation::default()]);
    let empty = [Beginning { tokens: &[], ..beginning(&prompts[0], 0) }];
    assert!(generator(&model, 1.0, &[]).generate(&empty, &mut |_| true).is_err());
    assert!(generator(&model, 1e-9, &[]).generate(&all, &mut |_| true).is_err());
}
