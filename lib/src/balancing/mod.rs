//! Balancing: which of a cluster's backends takes the next request.
//!
//! An algorithm sees its candidates as indexes, weights and loads. Which of them may be chosen at the moment
//! (not failing, not tried already, a backup or not) is the caller's knowledge, asked for by a closure.
//! Nothing here reads a clock, has randomness of its own, or allocates when choosing.
//!
//! One file per algorithm: [`RoundRobin`], [`random`], [`least_loaded`], [`power_of_two`], [`rendezvous`] (HRW),
//! [`Maglev`]. Beside them what several of them use: [`hash`], [`Draws`], the [`Shard`] of a client, a backend's
//! [`ConnectTime`], and the weights of a [`slow_start`].

mod connect_time;
mod draws;
pub mod hash;
pub mod least_loaded;
mod maglev;
pub mod power_of_two;
pub mod random;
pub mod rendezvous;
mod round_robin;
mod shard;
pub mod slow_start;

pub use connect_time::ConnectTime;
pub use draws::Draws;
pub use maglev::{Maglev, Seat};
pub use round_robin::RoundRobin;
pub use shard::Shard;

/// What an algorithm that looks at loads has to know of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burden {
    /// Its share relative to the others; 0 counts as 1.
    pub weight: u32,
    /// What it has to do now, in whatever unit all candidates have in common; finite, not negative.
    pub load: f64,
}

impl Burden {
    /// The load that one unit of weight carries: what is compared.
    fn per_weight(self) -> f64 {
        self.load / f64::from(self.weight.max(1))
    }
}
