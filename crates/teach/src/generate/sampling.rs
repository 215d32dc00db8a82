//! Drawing of the next token from a row of logits.

use crate::{Error, Result};
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::rng::CounterRng;
use logitcask_select::sum_exp;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits. 0 always takes the largest logit (greedy decoding).
    pub temperature: f64,
    /// Nucleus sampling: only the smallest set of most likely classes that reaches this probability is sampled from.
    pub top_p: f64,
}

impl Sampling {
    /// Rejects settings out of range.
    ///
    /// # Errors
    /// [`Error::Sampling`] names the setting.
    pub fn check(self) -> Result<()> {
        let Self { temperature, top_p } = self;
        if !(temperature == 0.0 || (1e-2..=1e2).contains(&temperature)) {
            return Err(Error::Sampling(format!("temperature {temperature} must be 0 or between 0.01 and 100")));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::Sampling(format!("top-p {top_p} must be greater than 0 and at most 1")));
        }
        Ok(())
    }
}

/// Samples one class from the nucleus of softmax(row / temperature). Classes are visited in a fixed order (by weight,
/// then by id), so that the result is the same everywhere.
pub(super) fn sample(row: &[f32], sampling: Sampling, rng: &mut CounterRng) -> u32 {
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

    const SAMPLING: Sampling = Sampling { temperature: 1.0, top_p: 1.0 };

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
