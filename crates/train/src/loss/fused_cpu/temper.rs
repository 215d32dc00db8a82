//! [`crate::loss::DeviceTargets`] of one row, in memory.

use crate::loss::divergence::NOTHING;
use crate::loss::lanes::{log_add_exp, log_sum_exp};
use crate::target_batch::{NO_CLASS, TargetBatch};
use logitcask_core::TailPolicy;
use logitcask_core::exp::exp_nonpositive;
use logitcask_core::tail::LEAST_LEFT;

/// Writes the log-probabilities of row `i` at `temperature` as `policy` sees them, and behind them, where the classes outside
/// have a place and weigh anything, the log of their probability. Returns whether they have.
#[inline(always)]
pub(super) fn temper(
    targets: &TargetBatch,
    i: usize,
    temperature: f32,
    policy: TailPolicy,
    log_probs: &mut Vec<f32>,
) -> bool {
    let b = 1.0 / temperature;
    let classes = i * targets.width..(i + 1) * targets.width;
    log_probs.clear();
    log_probs.extend(targets.log_probs[classes.clone()].iter().map(|lp| b * lp));
    let log_tail = log_tail(targets, i, b);
    let log_known = match &targets.is_sure {
        None => log_sum_exp(log_probs),
        Some(is_sure) => log_sum_exp_where(log_probs, &is_sure[classes]),
    };
    let log_total = match (log_tail, policy) {
        (Some(log_tail), policy) if policy != TailPolicy::Renormalize => log_add_exp(log_known, log_tail),
        _ => log_known,
    };
    log_probs.iter_mut().for_each(|lp| *lp -= log_total);
    match log_tail {
        Some(log_tail) if policy == TailPolicy::Bucket && log_tail - log_total > NOTHING => {
            log_probs.push(log_tail - log_total);
            true
        }
        _ => false,
    }
}

/// Log of the tail's partition function relative to log_z.
#[inline(always)]
fn log_tail(targets: &TargetBatch, i: usize, b: f32) -> Option<f32> {
    let atoms = i * targets.tail_width..(i + 1) * targets.tail_width;
    let (logits, weights) = (&targets.tail_logits[atoms.clone()], &targets.tail_log_weights[atoms]);
    let terms = || logits.iter().zip(weights).map(|(x, w)| b * x + w);
    if logits.is_empty() {
        return None;
    }
    let max = terms().fold(f32::MIN, f32::max);
    let all = terms().map(|x| exp_nonpositive(x - max)).sum::<f32>().ln() + max;
    Some(match &targets.without {
        None => all,
        Some(without) => all + (1.0 - (b * without[i] - all).exp()).max(LEAST_LEFT as f32).ln(),
    })
}

/// Of the numbers where `is_there` is 1; it is 0 elsewhere.
#[inline(always)]
fn log_sum_exp_where(x: &[f32], is_there: &[f32]) -> f32 {
    let there = || x.iter().zip(is_there).map(|(x, is_there)| x + (1.0 - is_there) * NO_CLASS);
    let max = there().fold(f32::MIN, f32::max);
    there().map(|x| exp_nonpositive(x - max)).sum::<f32>().ln() + max
}
