//! What rules about temperatures and weights are told of the positions of a step.

/// What is known of a row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogitStats {
    /// log sum exp at T = 1.
    pub log_z: f64,
    /// The largest raw logit.
    pub largest: f64,
    /// The second largest; only where [`RequiredStats::second`] asks.
    pub second: f64,
    /// Entropy in nats at T = 1; only where [`RequiredStats::entropy`] asks.
    pub entropy: f64,
    /// log-probability of the label at T = 1.
    pub gold: f64,
}

impl LogitStats {
    /// Probability of the first choice at T = 1.
    pub fn confidence(&self) -> f64 {
        (self.largest - self.log_z).exp()
    }

    /// How much more probable than the second choice the first is, at T = 1.
    pub fn margin(&self) -> f64 {
        self.confidence() - (self.second - self.log_z).exp()
    }
}

/// What is known of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenStats {
    /// The teacher's row.
    pub teacher: LogitStats,
    /// The student's row.
    pub student: LogitStats,
    /// How many classes the teacher ranks before the label.
    pub gold_rank: u32,
    /// Is the student's first choice the label?
    pub is_right: bool,
    /// Hellinger distance of teacher and student at T = 1, within 0..=1, the classes that were not kept as one; only where
    /// [`RequiredStats::distance`] asks.
    pub distance: f64,
    /// Cosine of the two vectors of raw logits of the classes that were kept; only where [`RequiredStats::cosine`] asks.
    pub cosine: f64,
    /// The temperature at which the teacher's entropy is as asked; only where [`RequiredStats::target_entropy`] asks.
    pub target_temperature: f64,
}

/// A step, before its loss.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// Share of the run that is behind, 0..=1.
    pub progress: f64,
    /// The temperature that the recipe's curve gives.
    pub temperature: f64,
    /// Classes.
    pub vocab_size: usize,
    /// Every position of the step; empty where no rule asks for them.
    pub positions: &'a [TokenStats],
}

/// What came of a step; means are over its positions.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepFeedback<'a> {
    /// Mean of the divergence, without scale and weights.
    pub divergence: f64,
    /// Mean cross entropy of the student on the labels; only where [`RequiredStats::cross_entropy`] asks.
    pub cross_entropy: f64,
    /// The same of the teacher.
    pub teacher_cross_entropy: f64,
    /// d (mean of the scaled divergence) / d T at each position, teacher and student moved together; only where
    /// [`RequiredStats::slopes`] asks.
    pub slopes: &'a [f64],
}

/// What a rule must be told; what is not asked for is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequiredStats {
    /// [`StepContext::positions`], which cost the head's product a second time.
    pub positions: bool,
    /// [`LogitStats::second`].
    pub second: bool,
    /// [`LogitStats::entropy`].
    pub entropy: bool,
    /// [`TokenStats::distance`].
    pub distance: bool,
    /// [`TokenStats::cosine`].
    pub cosine: bool,
    /// [`TokenStats::target_temperature`] for this entropy in nats.
    pub target_entropy: Option<f64>,
    /// [`StepFeedback::cross_entropy`] and [`StepFeedback::teacher_cross_entropy`].
    pub cross_entropy: bool,
    /// [`StepFeedback::slopes`].
    pub slopes: bool,
}

impl RequiredStats {
    /// Nothing.
    pub const NONE: Self = Self {
        positions: false,
        second: false,
        entropy: false,
        distance: false,
        cosine: false,
        target_entropy: None,
        cross_entropy: false,
        slopes: false,
    };

    /// Positions without anything special about them.
    pub const POSITIONS: Self = Self { positions: true, ..Self::NONE };

    /// What either asks.
    pub fn or(self, other: Self) -> Self {
        Self {
            positions: self.positions | other.positions,
            second: self.second | other.second,
            entropy: self.entropy | other.entropy,
            distance: self.distance | other.distance,
            cosine: self.cosine | other.cosine,
            target_entropy: self.target_entropy.or(other.target_entropy),
            cross_entropy: self.cross_entropy | other.cross_entropy,
            slopes: self.slopes | other.slopes,
        }
    }
}
