//! Texts of different lengths that are continued together.

use super::{VOCAB, WIDTH, assert_close, int, logits, models, tokens};
use crate::{CausalLm, KvCache, Model};
use burn::tensor::{Device, Tensor};

/// A row of [`tokens`], and how many of its tokens are read.
#[derive(Clone, Copy)]
struct Text {
    row: usize,
    read: usize,
}

impl Text {
    fn tokens(self) -> Vec<u32> {
        tokens()[self.row * WIDTH..][..self.read].iter().map(|&token| token as u32).collect()
    }

    /// The token after those that are read.
    fn next(self) -> i64 {
        tokens()[self.row * WIDTH + self.read]
    }

    /// The logits after those that are read, from one pass over the whole row.
    fn expected(self, whole: &[f32]) -> &[f32] {
        &whole[(self.row * WIDTH + self.read - 1) * VOCAB..][..VOCAB]
    }
}

fn check(got: Tensor<2>, texts: &[Text], whole: &[f32], what: &str) {
    let got: Vec<f32> = got.try_into_vec_as().unwrap();
    for (text, got) in texts.iter().zip(got.chunks(VOCAB)) {
        assert_close(got, text.expected(whole), &format!("{what}, row {} after {}", text.row, text.read));
    }
}

fn step(model: &Model, texts: &mut [Text], cache: &mut KvCache) -> Tensor<2> {
    let next: Vec<i64> = texts.iter().map(|text| text.next()).collect();
    texts.iter_mut().for_each(|text| text.read += 1);
    model.step(int(next, [texts.len()], &model.device()), cache)
}

#[test]
fn texts_that_are_continued_together_have_the_logits_that_each_has_alone() {
    for model in models(&Device::flex()) {
        let (whole, what) = (logits(&model, tokens()), format!("{:?}", model.config()));
        let mut texts = vec![Text { row: 0, read: 4 }, Text { row: 1, read: 1 }, Text { row: 0, read: 2 }];
        let read = |texts: &[Text]| {
            let tokens: Vec<Vec<u32>> = texts.iter().map(|text| text.tokens()).collect();
            model.prefill(&tokens.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let (first, second) = (read(&texts[..2]), read(&texts[2..]));
        check(first.0, &texts[..2], &whole, &what);
        check(second.0, &texts[2..], &whole, &what);
        let mut cache = KvCache::stack(vec![first.1, second.1]);
        for _ in 0..3 {
            check(step(&model, &mut texts, &mut cache), &texts, &whole, &what);
        }
        // The longest one leaves, and the others change places.
        cache.keep(&[2, 1], &model.device());
        texts = vec![texts[2], texts[1]];
        for _ in 0..2 {
            check(step(&model, &mut texts, &mut cache), &texts, &whole, &what);
        }
        cache.keep(&[1], &model.device());
        texts.remove(0);
        check(step(&model, &mut texts, &mut cache), &texts, &whole, &what);
    }
}
