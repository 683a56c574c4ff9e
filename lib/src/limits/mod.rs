//! Limits that hold over all workers: how many at a time, and how many a second.
//!
//! [`SharedTables`] is memory that main makes and every worker maps. [`shared_counters`] counts in it what is there at
//! a time, [`rates`] what comes a second; both find an entry by a [`Key`] with the help of `slots`, without a lock.
//! Nothing here reads a clock, and nothing is touched for a request that no limit is configured for.

pub mod clients;
pub mod key;
#[cfg(test)]
mod model;
pub mod rates;
pub mod requests;
pub mod shared_counters;
mod slots;
mod tables;

pub use clients::{Admission, ClientLimits, Permits};
pub use key::{Key, Scope};
pub use rates::{Rate, Rates};
pub use requests::{Asked, Of, Rated};
pub use shared_counters::{Added, Counters, Permit};
pub use tables::{Layout, SharedTables};
