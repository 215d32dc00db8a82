//! Lets a model continue texts: many at once, each with its own random stream and its own end.

mod sampling;

pub use sampling::Sampling;

use crate::{Error, Result};
use burn::tensor::{DType, Int, Tensor, TensorData};
use logitcask_core::rng::CounterRng;
use logitcask_model::{CausalLm, KvCache};
use rayon::prelude::*;
use sampling::sample;

/// Number of tokens that are read in one pass before texts are continued, unless one text has more. It bounds the
/// memory of that pass.
const READ_AT_ONCE: usize = 2048;

/// A text to continue.
#[derive(Clone, Debug)]
pub struct Beginning<'a> {
    /// Its tokens, at least one.
    pub tokens: &'a [u32],
    /// The random numbers for the tokens that follow, one for each.
    pub rng: CounterRng,
    /// Maximum number of tokens that follow. With `tokens`, at most the model's context.
    pub most: usize,
}

/// What a model wrote after a beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The tokens; the last one is an end token if the text is finished.
    pub tokens: Vec<u32>,
    /// Did it end with an end token, rather than at the maximum length?
    pub is_finished: bool,
}

impl Continuation {
    /// Its tokens without the end token.
    pub fn text(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - usize::from(self.is_finished)]
    }
}

/// A model, and how it continues texts.
#[derive(Debug)]
pub struct Generator<'a, M> {
    /// The model.
    pub model: &'a M,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that end a text.
    pub ends: &'a [u32],
    /// Only the first classes are drawn; the rest of the model's head belong to no token.
    pub classes: usize,
}

struct ActiveText {
    slot: usize,
    rng: CounterRng,
    most: usize,
}

impl<M: CausalLm> Generator<'_, M> {
    /// Continues all texts together, in one batch. `on_token` is called before each token with the number of texts that
    /// go on, and stops the work by returning false; texts are then as they are.
    ///
    /// A text of the same random stream is the same in every batch, unless the last bit of a logit decides, which can
    /// differ between batches of different sizes.
    ///
    /// # Errors
    /// [`Error::Sampling`] if the settings are out of range or a logit is not finite. [`Error::Device`] if the logits
    /// cannot be read back.
    pub fn generate(
        &self,
        beginnings: &[Beginning<'_>],
        on_token: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Continuation>> {
        self.sampling.check()?;
        let device = self.model.device();
        let mut out = vec![Continuation::default(); beginnings.len()];
        let begun = beginnings.iter().enumerate().filter(|(_, text)| text.most > 0);
        let mut active: Vec<ActiveText> =
            begun.map(|(slot, text)| ActiveText { slot, rng: text.rng.clone(), most: text.most }).collect();
        if active.is_empty() || !on_token(active.len()) {
            return Ok(out);
        }
        let (mut logits, mut cache) = self.read(active.iter().map(|text| beginnings[text.slot].tokens))?;
        loop {
            let drawn = self.draw(&mut active, logits)?;
            let mut going_on = Vec::with_capacity(active.len());
            for (row, (text, &token)) in active.iter().zip(&drawn).enumerate() {
                let written = &mut out[text.slot];
                written.tokens.push(token);
                written.is_finished = self.ends.contains(&token);
                if !written.is_finished && written.tokens.len() < text.most {
                    going_on.push(row);
                }
            }
            if going_on.is_empty() || !on_token(going_on.len()) {
                return Ok(out);
            }
            if going_on.len() < active.len() {
                cache.keep(&going_on, &device);
                let mut row = 0..;
                active.retain(|_| row.next().is_some_and(|row: usize| going_on.binary_search(&row).is_ok()));
            }
            let tokens: Vec<i64> = going_on.iter().map(|&row| i64::from(drawn[row])).collect();
            let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [active.len()]), &device);
            logits = self.model.step(tokens, &mut cache);
        }
    }

    /// Reads texts in passes of bounded size. Returns the logits after them, \[texts, classes of the head\].
    fn read<'t>(&self, texts: impl Iterator<Item = &'t [u32]>) -> Result<(Tensor<2>, KvCache)> {
        let (mut parts, mut part, mut size) = (Vec::new(), Vec::<&[u32]>::new(), 0);
        for text in texts {
            if text.is_empty() {
                return Err(Error::Sampling("a text without a token cannot be continued".to_owned()));
            }
            if size + text.len() > READ_AT_ONCE && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += text.len();
            part.push(text);
        }
        parts.push(part);
        let (logits, caches): (Vec<_>, Vec<_>) = parts.iter().map(|part| self.model.prefill(part)).unzip();
        Ok((Tensor::cat(logits, 0), KvCache::stack(caches)))
    }

    /// The next token of each text. logits: \[texts, classes of the head\].
    fn draw(&self, texts: &mut [ActiveText], logits: Tensor<2>) -> Result<Vec<u32>> {
        let logits = logits.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
        if !logits.iter().all(|z| z.is_finite()) {
            return Err(Error::Sampling("the model's logits contain a NaN or an infinity".to_owned()));
        }
        let width = logits.len() / texts.len();
        let classes = self.classes.min(width);
        let rows = texts.par_iter_mut().zip(logits.par_chunks(width));
        Ok(rows.map(|(text, row)| sample(&row[..classes], self.sampling, &mut text.rng)).collect())
    }
}

#[cfg(test)]
mod tests;
