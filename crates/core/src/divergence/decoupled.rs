//! Decoupled KL: the label against all other classes, and KL among the others, each with its own weight.

use super::formula::{Compared, OverRows, Properties, Settings, needed};
use super::number::WholeRows;
use super::tempered::TailPolicy;
use crate::ConfigError;
use serde::{Deserialize, Serialize};

/// With P and Q the label's probabilities: label · (P log(P / Q) + (1 - P) log((1 - P) / (1 - Q))) + others · Σ p'
/// log(p' / q'), where p' = p / (1 - P) and q' = q / (1 - Q) over the other terms (DKD, 2203.08679). If the label is
/// not among the kept classes, all terms count as others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decoupled {
    /// Weight of the first part, the label against all others.
    pub label: f64,
    /// Weight of the second part, KL among the others.
    pub others: f64,
}

impl Settings for Decoupled {
    const DEFAULT: Self = Self { label: 1.0, others: 8.0 };
    #[cfg(test)]
    const GOLDEN: super::tests::Golden = super::tests::Golden {
        loss: 1.074_140_677_225_750_2,
        gradient: [
            0.157_981_339_121_906_98,
            -0.061_074_288_499_839_265,
            0.216_643_806_028_016_53,
            0.168_722_365_782_188_83,
            -0.940_908_163_392_617_1,
            0.458_634_940_960_344_1,
        ],
    };
}

impl Properties for Decoupled {
    fn check(&self) -> Result<(), ConfigError> {
        super::check_weight("label", self.label).and(super::check_weight("others", self.others))
    }

    fn check_tail_policy(&self, policy: TailPolicy) -> Result<(), ConfigError> {
        match policy {
            TailPolicy::Bucket => Ok(()),
            _ => Err(policy.refused("\"bucket\"").because("decoupled compares the label with all others together")),
        }
    }

    fn needs_label(&self) -> bool {
        true
    }
}

/// Subtracted from the log-probability of classes that are not among the others: e^-1e30 is 0, yet the value stays
/// finite.
const AWAY: f64 = 1e30;

impl OverRows for Decoupled {
    fn of_rows<A: WholeRows>(&self, compared: &Compared<A>) -> A {
        let is_label = needed(&compared.label);
        let mut is_other = compared.presence() - is_label.clone();
        let (mut log_p, mut log_q) = (compared.kept.log_p.clone(), compared.kept.log_q.clone());
        let of_label = |x: &A| (x.clone() * is_label.clone()).sum();
        let label = [of_label(&log_p), of_label(&log_q)];
        if let Some(outside) = &compared.outside {
            let is_there = match &outside.counts {
                None => outside.log_q.clone() * 0.0 + 1.0,
                Some(counts) => counts.clone(),
            };
            (log_p, log_q) = (log_p.beside(outside.log_p.clone()), log_q.beside(outside.log_q.clone()));
            is_other = is_other.beside(is_there);
        }
        let away = (is_other.clone() + -1.0) * AWAY;
        let [log_p_others, log_q_others] = [&log_p, &log_q].map(|x| (x.clone() + away.clone()).log_sum_exp());
        let share = (log_p.clone() + away - log_p_others.clone()).exp();
        let off = (log_p - log_p_others.clone()) - (log_q - log_q_others.clone());
        let among_others = (off * is_other).weighted_by(share).sum();
        let [log_p, log_q] = label;
        let against =
            log_p.clone().exp() * (log_p - log_q) + log_p_others.clone().exp() * (log_p_others - log_q_others);
        against * self.label + among_others * self.others
    }
}
