//! Balancing: which of a cluster's backends takes the next request.
//!
//! An algorithm sees its candidates as indexes and weights. Which of them may be chosen at the moment
//! (not failing, not tried already, a backup or not) is the caller's knowledge, asked for by a closure.
//! Nothing here reads a clock, draws randomness, or allocates when choosing.
//!
//! One file per algorithm; so far [`RoundRobin`].

mod round_robin;

pub use round_robin::RoundRobin;
