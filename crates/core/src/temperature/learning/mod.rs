//! Learning for rules: small networks in f64 on the CPU, and policy optimisation. Only the rules use them.

mod actor_critic;
mod mlp;

pub(super) use actor_critic::ActorCritic;
pub(super) use mlp::{Adam, Mlp};
