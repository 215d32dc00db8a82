//! A student's logits where a loss looks at them.

use crate::loss::{StepLoss, log_sum_exp};
use burn::tensor::Tensor;
use logitcask_core::TailPolicy;

/// Logit of a class that is out of sight: e^NOWHERE is 0, and it can still be scaled and subtracted from.
pub const NOWHERE: f32 = -1e30;

/// What a loss needs of n rows of logits: the kept classes one by one, the others in one number.
pub struct Student {
    /// \[n, width\], logits of the teacher's kept classes; `None`: there is no teacher.
    pub kept: Option<Tensor<2>>,
    /// \[n, 1\], logit of the label.
    pub gold: Tensor<2>,
    /// log sum exp(logit / T) over all classes that are not kept, \[n, 1\], by T.
    pub outside: Vec<(f64, Tensor<2>)>,
    /// \[n, width\], see [`super::Teacher::absence`].
    pub absence: Option<Tensor<2>>,
    /// All logits, and 1 for a class that is not kept, 0 for one that is: \[n, vocabulary\] both, where
    /// [`needs_all`] says so.
    pub all: Option<(Tensor<2>, Tensor<2>)>,
}

/// Must a loss see the classes outside one by one?
pub fn needs_all(config: &StepLoss) -> bool {
    config.alpha > 0.0 && config.tail == TailPolicy::Uniform
}

/// Log-probabilities at one temperature.
pub struct LogProbs {
    /// \[n, width\], of the kept classes.
    pub kept: Tensor<2>,
    /// \[n, 1\], of all others together.
    pub other: Tensor<2>,
}

impl Student {
    /// log sum exp(logit / T) over all classes, \[n, 1\].
    pub fn log_z(&self, temperature: f64) -> Tensor<2> {
        let outside = self.outside(temperature);
        let Some(kept) = &self.kept else { return outside };
        let kept = match &self.absence {
            None => kept.clone(),
            Some(absence) => kept.clone() + absence.clone(),
        };
        log_sum_exp(Tensor::cat(vec![kept / temperature, outside], 1))
    }

    /// The kept classes and the others at `temperature`; `None` without a teacher.
    pub fn log_probs(&self, temperature: f64) -> Option<LogProbs> {
        let log_z = self.log_z(temperature);
        let kept = self.kept.clone()? / temperature - log_z.clone();
        Some(LogProbs { kept, other: self.outside(temperature) - log_z })
    }

    /// -log q(label) at T = 1, \[n, 1\].
    pub fn cross_entropy(&self) -> Tensor<2> {
        self.log_z(1.0) - self.gold.clone()
    }

    /// # Panics
    /// At a temperature that it was not made for.
    fn outside(&self, temperature: f64) -> Tensor<2> {
        match self.outside.iter().find(|(t, _)| *t == temperature) {
            Some((_, outside)) => outside.clone(),
            None => unreachable!("no log-partition at T = {temperature}"),
        }
    }
}
