//! Checks that what a server tells of a position can be what a model says there at T = 1.

use crate::{AnswerPosition, AnswerProblem, Entry};

/// How far the probabilities of the likeliest classes may exceed 1: servers compute in f32, and some write only four
/// digits.
const MASS_TOLERANCE: f64 = 1e-3;
/// Log-probabilities from here down stand for classes that were masked: vLLM writes -9999 in place of minus infinity.
const MASKED: f64 = -1000.0;
/// How many times as many classes as the tokenizer has tokens a model's head may have.
const PADDING: f64 = 1.1;
/// Tolerated difference of the label's log-probability in two places of an answer, in nats.
const SAME: f64 = 1e-5;

/// The entries, likeliest first with ties to the lower id: the `k` likeliest, and the label behind them if it is not
/// one of these and the server lists it.
pub(super) fn likeliest(
    answer: &AnswerPosition,
    label: u32,
    k: usize,
    vocab_size: u32,
) -> Result<Vec<Entry>, AnswerProblem> {
    let mut entries = answer.entries.clone();
    for entry in &entries {
        check_entry(entry, vocab_size)?;
    }
    entries.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob).then(a.class.cmp(&b.class)));
    check_twice(&entries)?;
    check_label(answer, &entries, label, k)?;
    check_mass(&entries[..k], vocab_size)?;
    check_rank(&entries, label, k)?;
    Ok(entries)
}

fn check_entry(entry: &Entry, vocab_size: u32) -> Result<(), AnswerProblem> {
    let Entry { class, log_prob, .. } = *entry;
    match log_prob {
        _ if class >= vocab_size => Err(AnswerProblem::OutsideVocabulary { class, vocab_size }),
        lp if !lp.is_finite() => Err(AnswerProblem::NotFinite { class }),
        lp if lp <= MASKED => Err(AnswerProblem::Masked { class, log_prob }),
        _ => Ok(()),
    }
}

fn check_twice(entries: &[Entry]) -> Result<(), AnswerProblem> {
    let mut classes: Vec<u32> = entries.iter().map(|entry| entry.class).collect();
    classes.sort_unstable();
    match classes.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(AnswerProblem::Twice { class: pair[0] }),
        None => Ok(()),
    }
}

/// Checks that there are the `k` likeliest classes and, beside them, at most the label, and that its log-probability is
/// the same wherever it stands.
fn check_label(answer: &AnswerPosition, entries: &[Entry], label: u32, k: usize) -> Result<(), AnswerProblem> {
    let listed = entries.iter().find(|entry| entry.class == label);
    let got = entries.len();
    if got < k || got > k + usize::from(listed.is_some()) {
        return Err(match listed {
            None if got == k + 1 => AnswerProblem::NoLabel { label },
            _ => AnswerProblem::Count { got, k },
        });
    }
    let least = entries[got - 1].log_prob;
    match (listed, answer.label_log_prob) {
        (None, None) => Err(AnswerProblem::NoLabel { label }),
        // With one class more than the likeliest, that one is the label, and no likelier than any of these.
        (Some(entry), _) if got == k + 1 && entry.log_prob > least => Err(AnswerProblem::Count { got, k }),
        (Some(_), Some(log_prob)) if log_prob.is_nan() => Err(AnswerProblem::NotFinite { class: label }),
        (Some(entry), Some(log_prob)) if (entry.log_prob - log_prob).abs() > SAME => {
            Err(AnswerProblem::Label { label, log_prob })
        }
        (None, Some(log_prob)) => check_unlisted(label, log_prob, least),
        (Some(_), _) => Ok(()),
    }
}

/// Checks the label of which only the log-probability is told: it is no likelier than any listed class.
fn check_unlisted(label: u32, log_prob: f64, least: f64) -> Result<(), AnswerProblem> {
    match log_prob {
        lp if !lp.is_finite() => Err(AnswerProblem::NotFinite { class: label }),
        lp if lp <= MASKED => Err(AnswerProblem::Masked { class: label, log_prob }),
        lp if lp > least + SAME => Err(AnswerProblem::Label { label, log_prob }),
        _ => Ok(()),
    }
}

/// Checks that these likeliest classes and all others can add up to 1.
fn check_mass(kept: &[Entry], vocab_size: u32) -> Result<(), AnswerProblem> {
    let mass: f64 = kept.iter().map(|entry| entry.log_prob.exp()).sum();
    if mass > 1.0 + MASS_TOLERANCE {
        return Err(AnswerProblem::TooProbable { mass });
    }
    let others = PADDING * f64::from(vocab_size) - kept.len() as f64;
    let rest = others.max(0.0) * kept.last().map_or(1.0, |entry| entry.log_prob.exp());
    match mass + rest < 1.0 - MASS_TOLERANCE {
        true => Err(AnswerProblem::TooImprobable { mass, rest }),
        false => Ok(()),
    }
}

/// Checks the label's rank, from 1, against its place: servers count those of its equals in or not.
fn check_rank(entries: &[Entry], label: u32, k: usize) -> Result<(), AnswerProblem> {
    let Some(entry) = entries.iter().find(|entry| entry.class == label) else { return Ok(()) };
    let Some(rank) = entry.rank else { return Ok(()) };
    let before = entries.iter().filter(|other| other.log_prob > entry.log_prob).count();
    let at_least = entries.iter().filter(|other| other.log_prob >= entry.log_prob).count();
    // All classes that are as probable as a class above the last of the likeliest are listed.
    let most = if entry.log_prob > entries[k - 1].log_prob { at_least as u64 } else { u64::MAX };
    let place = entries.iter().position(|other| other.class == label).unwrap_or(0);
    let least = if place < k { before as u64 + 1 } else { k as u64 + 1 };
    match (least..=most).contains(&rank) {
        true => Ok(()),
        false => Err(AnswerProblem::Rank { label, rank, before }),
    }
}
