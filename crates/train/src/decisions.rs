//! The temperatures and weights that rules chose for each position.

use logitcask_core::temperature::Temperatures;
use std::ops::Range;

/// The temperatures and weights that rules chose for some positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenDecisions {
    /// Temperatures of each term that has a rule; may be shorter than the list of terms.
    pub temperatures: Vec<Option<Temperatures>>,
    /// Weight of each position in the soft loss; `None` means 1.
    pub weights: Option<Vec<f32>>,
    /// A second teacher's weight at each position.
    pub second: Option<Vec<f32>>,
}

impl TokenDecisions {
    /// Rejects values that are not temperatures or weights. Rules use the student's statistics, and the student may
    /// have diverged.
    pub(crate) fn check(&self) -> Result<(), String> {
        let each = |temperatures: &Temperatures| match temperatures {
            Temperatures::Shared(pair) | Temperatures::TimesLogitStd { pair, .. } => vec![*pair],
            Temperatures::PerToken(temperatures) => temperatures.clone(),
        };
        let temperatures =
            self.temperatures.iter().flatten().flat_map(each).flat_map(|pair| [pair.teacher, pair.student]);
        if let Some(t) = temperatures.into_iter().find(|t| !(t.is_finite() && *t > 0.0)) {
            return Err(format!("a rule about temperatures answers {t}"));
        }
        let mut weights = self.weights.iter().chain(&self.second).flatten();
        match weights.find(|weight| !weight.is_finite()) {
            Some(weight) => Err(format!("a rule about weights answers {weight}")),
            None => Ok(()),
        }
    }

    /// Whether temperatures follow the standard deviation of the student's logits.
    pub(crate) fn follow_logit_std(&self) -> bool {
        self.temperatures
            .iter()
            .flatten()
            .any(|temperatures| matches!(temperatures, Temperatures::TimesLogitStd { .. }))
    }

    /// The decisions for some of the positions.
    pub fn part(&self, range: Range<usize>) -> Self {
        let cut = |temperatures: &Temperatures| match temperatures {
            Temperatures::PerToken(temperatures) => Temperatures::PerToken(temperatures[range.clone()].to_vec()),
            alike => alike.clone(),
        };
        let part = |weights: &Option<Vec<f32>>| weights.as_ref().map(|weights| weights[range.clone()].to_vec());
        Self {
            temperatures: self.temperatures.iter().map(|temperatures| temperatures.as_ref().map(cut)).collect(),
            weights: part(&self.weights),
            second: part(&self.second),
        }
    }
}
