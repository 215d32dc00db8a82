//! What rules about temperatures and weights decided, position by position.

use logitcask_core::temperature::Temperatures;
use std::ops::Range;

/// What rules decided at some positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenDecisions {
    /// Of each term, its temperatures, where a rule has a say; may be fewer than there are terms.
    pub temperatures: Vec<Option<Temperatures>>,
    /// How much of the soft part each position has; `None`: 1.
    pub weights: Option<Vec<f32>>,
    /// How much of a second teacher's.
    pub second: Option<Vec<f32>>,
}

impl TokenDecisions {
    /// Says what is no temperature and no weight. Rules look at the student, which may have diverged.
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

    /// Do temperatures follow the standard deviation of the student's logits?
    pub(crate) fn follow_logit_std(&self) -> bool {
        self.temperatures
            .iter()
            .flatten()
            .any(|temperatures| matches!(temperatures, Temperatures::TimesLogitStd { .. }))
    }

    /// For some of the positions.
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
