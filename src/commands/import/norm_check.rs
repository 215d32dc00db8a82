//! Whether hidden states are from the side of the final norm that the user said.

use crate::args::{HiddenArgs, NormCheck};
use crate::output::note;
use anyhow::{Result, bail};
use logitcask_core::Sample;
use logitcask_model::{Device, FinalLayers, NormSide, Precision, PretrainedModel};
use logitcask_teach::hidden_states::{Agreement, HiddenStates, label_log_probs};
use logitcask_teach::{LocalTeacher, StatesTeacher};

/// Number of sequences that are compared, and of their tokens.
const SAMPLES: usize = 16;
const SAMPLE_TOKENS: usize = 65;
/// Tokens of a batch.
const BATCH_TOKENS: usize = 1024;
/// Largest mean difference of log-probabilities in nats. Exporters round states and logits to bf16, in which a logit
/// between 16 and 32 is off by up to 0.06.
const MEAN_BOUND: f64 = 0.1;
/// A reading is refused although it is within [`MEAN_BOUND`] if the difference of the other one is smaller by this
/// factor and by this many nats: where the norm changes states little, both can be close.
const CLEARLY: (f64, f64) = (2.0, 1e-3);

/// What is compared.
pub(super) struct NormChecker<'a> {
    pub args: &'a HiddenArgs,
    pub files: &'a PretrainedModel,
    pub states: &'a HiddenStates,
    pub layers: &'a FinalLayers,
    pub device: &'a Device,
}

impl NormChecker<'_> {
    /// Compares the log-probabilities of some tokens, as the states give them, with others.
    pub(super) fn check(&self) -> Result<()> {
        let (asked, other) = (self.args.norm, self.args.norm.other());
        let samples = self.states.spread(SAMPLES, SAMPLE_TOKENS);
        let Some(others) = self.others(&samples)? else {
            note!("it was not checked that the states are from {} the final norm", asked.name());
            return Ok(());
        };
        let Some(of_asked) = self.agreement(asked, &samples, &others)? else { return Ok(()) };
        let of_other = self.agreement(other, &samples, &others)?;
        if of_asked.tokens == 0 {
            bail!("none of the log-probabilities of tokens that were read is finite, so that --norm cannot be checked");
        }
        let (factor, margin) = CLEARLY;
        let is_close = |agreement: &Agreement| agreement.tokens > 0 && agreement.mean <= MEAN_BOUND;
        let is_better = |of_other: &Agreement| is_close(of_other) && of_asked.mean > factor * of_other.mean + margin;
        if let Some(of_other) = of_other.filter(is_better) {
            bail!(
                "the states are not from {} the final norm but from {} it: read so, the log-probabilities of {}, and \
                 as --norm {} says, {}. Say --norm {}",
                asked.name(),
                other.name(),
                described(&of_other),
                asked.name(),
                described(&of_asked),
                other.name()
            );
        }
        if !is_close(&of_asked) {
            let of_other = of_other.map_or(String::new(), |of_other| {
                format!("; read as from {} it, those of {}", other.name(), described(&of_other))
            });
            bail!(
                "the states, read as from {} the final norm, do not give the log-probabilities of the tokens: those \
                 of {}, at most {MEAN_BOUND} on average can be rounding{of_other}. They are of another model, layer \
                 or text, or the log-probabilities are not those at T = 1",
                asked.name(),
                described(&of_asked)
            );
        }
        note!("states from {} the final norm: the log-probabilities of {}", asked.name(), described(&of_asked));
        Ok(())
    }

    /// The log-probabilities that the states have to give; `None` if there is to be no check.
    fn others(&self, samples: &[Sample]) -> Result<Option<Vec<Vec<f64>>>> {
        let told = self.states.have_log_probs();
        match self.args.check {
            Some(NormCheck::None) => Ok(None),
            Some(NormCheck::Model) => {
                let teacher = LocalTeacher::new(self.files.load(self.device, Precision::F32)?);
                Ok(Some(label_log_probs(&teacher, samples, BATCH_TOKENS)?))
            }
            Some(NormCheck::LogProbs) | None if told => {
                let of_sample = |sample| Ok(self.states.stored_log_probs(sample)?.unwrap_or_default());
                Ok(Some(samples.iter().map(of_sample).collect::<Result<_>>()?))
            }
            Some(NormCheck::LogProbs) | None => bail!(
                "not every file has the log-probabilities of its tokens (`token_logprobs`), with which --norm would be \
                 checked. --check model compares with the teacher, which is loaded whole for it; --check none takes \
                 --norm at its word"
            ),
        }
    }

    /// How the states agree with these numbers if they are from a side; `None` if they have not the width for it.
    fn agreement(&self, side: NormSide, samples: &[Sample], others: &[Vec<f64>]) -> Result<Option<Agreement>> {
        if self.files.config().states_width(side) != self.states.width() {
            return Ok(None);
        }
        let teacher = StatesTeacher::new(self.states, self.layers, side, self.device.clone());
        Ok(Some(Agreement::of(&label_log_probs(&teacher, samples, BATCH_TOKENS)?, others)))
    }
}

/// As a part of a sentence: of how many tokens what differs.
fn described(agreement: &Agreement) -> String {
    let Agreement { tokens, mean, worst } = agreement;
    format!("{tokens} tokens differ by {mean:.2e} nats on average, {worst:.2e} at most")
}
