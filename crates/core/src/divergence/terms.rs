//! Divergences that are sums over terms.

use super::{
    Comparison, Divergence, Remainder, Student, TemperedRow, alpha_beta, forward_kl, hellinger, jensen_shannon,
    reverse_kl, skew_kl, total_variation,
};
use crate::exp::exp_nonpositive;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Numbers of a formula: f64, which everything is tested against, or f32 for many of them at once.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// The nearest number.
    fn of(x: f64) -> Self;
    /// e^x, of x <= 0 as logarithms of probabilities are.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
}

impl Real for f64 {
    const ZERO: Self = 0.0;

    fn of(x: f64) -> Self {
        x
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn ln(self) -> Self {
        f64::ln(self)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn exp(self) -> Self {
        exp_nonpositive(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
}

/// What one term adds.
pub(super) struct Term<R> {
    /// Nats.
    pub(super) value: R,
    /// d value / d log q.
    pub(super) slope: R,
}

/// What the terms of a row add: a teacher's e^log_p beside a student's e^log_q, in nats into `values` and along log q into
/// `slopes`. Of [`Divergence::is_sum_over_classes`] alone.
#[inline(always)]
pub fn eval_terms<R: Real>(divergence: Divergence, log_p: &[R], log_q: &[R], values: &mut [R], slopes: &mut [R]) {
    // The formula is chosen once, outside the loop, so that the loop can become one of vectors.
    macro_rules! each {
        ($term:expr) => {{
            let term = $term;
            for (((&p, &q), value), slope) in log_p.iter().zip(log_q).zip(values).zip(slopes) {
                Term { value: *value, slope: *slope } = term(p, q);
            }
        }};
    }
    match divergence {
        Divergence::ForwardKl {} => each!(forward_kl::term),
        Divergence::ReverseKl {} => each!(reverse_kl::term),
        Divergence::JensenShannon { beta } => each!(|p, q| jensen_shannon::term(beta, p, q)),
        Divergence::SkewForwardKl { lambda } => each!(|p, q| skew_kl::forward(lambda, p, q)),
        Divergence::SkewReverseKl { lambda } => each!(|p, q| skew_kl::reverse(lambda, p, q)),
        Divergence::TotalVariation {} => each!(total_variation::term),
        Divergence::Hellinger {} => each!(hellinger::term),
        Divergence::AlphaBeta { alpha, beta } => each!(|p, q| alpha_beta::term(alpha, beta, p, q)),
        Divergence::MeanSquares { .. }
        | Divergence::Decoupled { .. }
        | Divergence::Pearson { .. }
        | Divergence::Spearman {} => unreachable!("it looks at a whole row"),
    }
}

/// A class inside the bucket has the share q / q_other of the bucket's slope.
pub(super) fn compare(divergence: Divergence, student: &Student, target: &TemperedRow) -> Comparison {
    let log_q = &student.log_q;
    let (mut slopes, mut loss) = (vec![0.0; log_q.len()], 0.0);
    let judge = |log_p: &[f64], log_q: &[f64]| {
        let (mut values, mut slopes) = (vec![0.0; log_p.len()], vec![0.0; log_p.len()]);
        eval_terms(divergence, log_p, log_q, &mut values, &mut slopes);
        values.into_iter().zip(slopes)
    };
    let kept: Vec<f64> = target.class_ids.iter().map(|&id| log_q[id as usize]).collect();
    let terms = judge(&target.log_probs, &kept).zip(&target.class_ids).zip(&target.counts);
    for (((value, slope), &id), count) in terms {
        slopes[id as usize] += count * slope;
        loss += count * value;
    }
    match target.rest {
        Remainder::Nothing => {}
        Remainder::Bucket { log_mass } => {
            let log_other = student.log_other();
            for (value, slope) in judge(&[log_mass], &[log_other]) {
                loss += value;
                student.outside.iter().for_each(|&i| slopes[i] = slope * (log_q[i] - log_other).exp());
            }
        }
        Remainder::Uniform { log_mass } => {
            let log_each = log_mass - (student.outside.len() as f64).ln();
            let outside: Vec<f64> = student.outside.iter().map(|&i| log_q[i]).collect();
            for ((value, slope), &i) in judge(&vec![log_each; outside.len()], &outside).zip(&student.outside) {
                loss += value;
                slopes[i] = slope;
            }
        }
    }
    Comparison { loss, gradient: student.gradient_of_slopes(&slopes) }
}
