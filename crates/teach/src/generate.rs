//! Lets a teacher write a corpus: many texts at once, each with its own random stream.

use crate::select::sum_exp;
use crate::{Error, Result};
use burn::tensor::{DType, Int, Tensor, TensorData};
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::rng::CounterRng;
use logitcask_model::{CausalLm, KvCache};
use rayon::prelude::*;

/// How texts are sampled.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Seed of the random streams. Text `i` of a seed is the same on one device, whatever else is generated with it.
    pub seed: u64,
    /// Divides the logits. 0 always takes the largest logit (greedy decoding).
    pub temperature: f64,
    /// Nucleus sampling: only the smallest set of most likely classes that reaches this probability is sampled from.
    pub top_p: f64,
    /// Maximum length of a text in tokens, including the first one; at most the model's context.
    pub max_tokens: usize,
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its tokens after the first one, without the end token.
    pub tokens: Vec<u32>,
    /// Did the text end with the end token, rather than at the length limit?
    pub finished: bool,
}

struct ActiveText {
    slot: usize,
    rng: CounterRng,
    last: u32,
}

/// Generates the texts numbered `texts`, all of which start with `prompt` (at least one token) and end at the token
/// `end`. Only the first `classes` classes are sampled; the rest of a model's head are padding. `on_step` is called
/// with the number of unfinished texts before each token and stops the run by returning false.
///
/// # Errors
/// [`Error::Sampling`] if the temperature or top-p is out of range, or if a logit is not finite. [`Error::Device`] if
/// the logits cannot be read back.
pub fn generate(
    model: &impl CausalLm,
    prompt: &[u32],
    (end, classes): (Option<u32>, usize),
    sampling: Sampling,
    texts: std::ops::Range<u64>,
    on_step: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Generated>> {
    let device = model.device();
    let start = prompt.first().copied().unwrap_or_default();
    let mut out = vec![Generated { tokens: Vec::new(), finished: false }; texts.clone().count()];
    let mut active: Vec<ActiveText> = texts
        .enumerate()
        .map(|(slot, text)| ActiveText {
            slot,
            rng: CounterRng::new("logitcask generate", &[sampling.seed, text]),
            last: start,
        })
        .collect();
    if !(sampling.temperature == 0.0 || (1e-2..=1e2).contains(&sampling.temperature)) {
        return Err(Error::Sampling(format!("temperature {} must be 0 or between 0.01 and 100", sampling.temperature)));
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return Err(Error::Sampling(format!("top-p {} must be greater than 0 and at most 1", sampling.top_p)));
    }
    let mut cache = KvCache::default();
    for position in 1..sampling.max_tokens {
        if active.is_empty() || !on_step(active.len()) {
            break;
        }
        let tokens: Vec<i64> = active.iter().map(|text| i64::from(text.last)).collect();
        let count = tokens.len();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [count]), &device);
        let logits = model.step(tokens, &mut cache).cast(DType::F32);
        let logits = logits.try_into_vec_as::<f32>().map_err(|e| Error::Device(e.to_string()))?;
        if !logits.iter().all(|z| z.is_finite()) {
            return Err(Error::Sampling(format!(
                "the model's logits at position {position} contain a NaN or an infinity"
            )));
        }
        let width = logits.len() / count;
        active.par_iter_mut().zip(logits.par_chunks(width)).for_each(|(text, row)| {
            text.last = match prompt.get(position) {
                Some(&given) => given,
                None => sample(&row[..classes.min(width)], sampling, &mut text.rng),
            };
        });
        let mut alive = Vec::with_capacity(count);
        for (row, text) in active.iter().enumerate() {
            if Some(text.last) == end {
                out[text.slot].finished = true;
            } else {
                out[text.slot].tokens.push(text.last);
                alive.push(row);
            }
        }
        if !alive.is_empty() && alive.len() < count {
            cache.keep(&alive, &device);
        }
        if alive.len() < count {
            active.retain(|text| !out[text.slot].finished);
        }
    }
    Ok(out)
}

/// Samples one class from the nucleus of softmax(row / temperature). Classes are visited in a fixed order (by weight,
/// then by id), so that the result is the same everywhere.
fn sample(row: &[f32], sampling: Sampling, rng: &mut CounterRng) -> u32 {
    let draw = rng.uniform();
    let larger = |best: (u32, f32), (id, &z): (u32, &f32)| if z > best.1 { (id, z) } else { best };
    let (best, max) = (0..).zip(row).fold((0, f32::NEG_INFINITY), larger);
    if sampling.temperature == 0.0 {
        return best;
    }
    let b = (1.0 / sampling.temperature) as f32;
    let total = sum_exp(row, max, b);
    let nucleus = nucleus(row, max, b, sampling.top_p * total);
    let mut left = draw * nucleus.iter().map(|(weight, _)| f64::from(*weight)).sum::<f64>();
    for (weight, id) in &nucleus {
        left -= f64::from(*weight);
        if left < 0.0 {
            return *id;
        }
    }
    best
}

/// The smallest set of largest classes whose weights e^(b (z - max)) reach `mass`, largest first, with ties in the
/// order of their ids.
///
/// Few classes hold most of the mass, so only those near the largest are sorted, and more of them only if these are not
/// enough.
fn nucleus(row: &[f32], max: f32, b: f32, mass: f64) -> Vec<(f32, u32)> {
    let mut reach = 8.0 / b;
    loop {
        let near = row.iter().zip(0..).filter(|(z, _)| max - **z <= reach);
        let mut classes: Vec<(f32, u32)> = near.map(|(&z, id)| (exp_nonpositive(b * (z - max)), id)).collect();
        classes.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut sum = 0.0;
        let short = classes.iter().take_while(|(weight, _)| {
            sum += f64::from(*weight);
            sum < mass
        });
        let size = short.count() + 1;
        if size <= classes.len() || classes.len() == row.len() {
            classes.truncate(size);
            return classes;
        }
        reach *= 4.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: Sampling = Sampling { seed: 1, temperature: 1.0, top_p: 1.0, max_tokens: 8 };

    #[test]
    fn sampling_follows_the_distribution_and_the_nucleus_cuts_it() {
        let row = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let count = |top_p| {
            let mut seen = [0usize; 4];
            for text in 0..20_000 {
                let mut rng = CounterRng::new("test", &[text]);
                seen[sample(&row, Sampling { top_p, ..SAMPLING }, &mut rng) as usize] += 1;
            }
            seen
        };
        let plain = count(1.0);
        for (seen, p) in plain.iter().zip([0.5f64, 0.3, 0.15, 0.05]) {
            let spread = (20_000.0 * p * (1.0 - p)).sqrt();
            assert!((*seen as f64 - 20_000.0 * p).abs() < 5.0 * spread, "{plain:?}");
        }
        let cut = count(0.9);
        assert!(cut[3] == 0 && cut[2] > 0, "{cut:?}");
    }

    #[test]
    fn zero_temperature_is_greedy() {
        let greedy = Sampling { temperature: 0.0, ..SAMPLING };
        assert_eq!(sample(&[0.0, 3.0, 3.0, 1.0], greedy, &mut CounterRng::new("test", &[0])), 1);
    }
}
