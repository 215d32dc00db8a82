//! The parts of a student's logits that a loss uses.

use crate::loss::{Temperature, log_sum_exp};
use burn::tensor::Tensor;

/// Logit of a masked class: e^NOWHERE is 0, yet it can still be scaled and subtracted from.
pub const NOWHERE: f32 = -1e30;

/// What a loss needs of n rows of logits: the kept classes individually, and one number per temperature for the others.
pub struct Student {
    /// \[n, width\], logits of the teacher's kept classes; `None` without a teacher.
    pub kept: Option<Tensor<2>>,
    /// \[n, 1\], logit of the label.
    pub gold: Tensor<2>,
    /// log sum exp(logit / T) over all classes that are not kept, \[n, 1\], for each temperature that a loss needs.
    pub views: Vec<(Temperature, Tensor<2>)>,
    /// \[n, width\], see [`super::DeviceTargets::absence`].
    pub absence: Option<Tensor<2>>,
    /// The logits of every class, if a loss uses them individually.
    pub all: Option<AllClasses>,
    /// Number of classes.
    pub vocab_size: usize,
}

/// Logits of whole rows.
pub struct AllClasses {
    /// \[n, vocabulary\].
    pub logits: Tensor<2>,
    /// \[n, vocabulary\], 1 for a class that is not kept, 0 for one that is.
    pub is_outside: Tensor<2>,
}

impl Student {
    /// log sum exp(logit / T) over all classes at one of [`Self::views`], \[n, 1\].
    pub fn log_z(&self, view: usize) -> Tensor<2> {
        let (temperature, outside) = &self.views[view];
        let Some(kept) = &self.kept else { return outside.clone() };
        let kept = match &self.absence {
            None => kept.clone(),
            Some(absence) => kept.clone() + absence.clone(),
        };
        log_sum_exp(Tensor::cat(vec![temperature.divide(kept), outside.clone()], 1))
    }

    /// -log q(label), \[n, 1\], from the view at T = 1.
    pub fn cross_entropy(&self, view: usize) -> Tensor<2> {
        self.log_z(view) - self.gold.clone()
    }
}

/// Standard deviation of the logits over all classes, \[n, 1\]. logits: \[n, vocabulary\].
pub fn logit_std(logits: Tensor<2>) -> Tensor<2> {
    let from_mean = logits.clone() - logits.mean_dim(1);
    (from_mean.clone() * from_mean).mean_dim(1).clamp_min(1e-12).sqrt()
}
