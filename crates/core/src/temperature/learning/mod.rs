//! What rules learn with: small networks in f64 on the host, and the optimisation of a policy. Nothing else needs them.

mod actor_critic;
mod mlp;

pub(super) use actor_critic::ActorCritic;
pub(super) use mlp::{Adam, Mlp};
