//! Health: whether a backend is worth trying.
//!
//! [`backoff`](Backoff): what attempts to connect tell. [`check`]: what one probe finds out. [`standing`](Standing):
//! what probes one after the other say. [`prober_of`]: which of the workers probes a backend.
//! [`retry_budget`](RetryBudget): how many further attempts a cluster in trouble is given. [`fitness`](Fitness): when
//! so few backends are fit that it is left out of account. Verdicts are returned, never logged or counted here; time
//! and randomness are handed in.

mod backoff;
pub mod check;
mod fitness;
mod prober;
mod retry_budget;
mod standing;

pub use backoff::{BackendTurn, Backoff};
pub use fitness::Fitness;
pub use prober::{identity_of, prober_of};
pub use retry_budget::RetryBudget;
pub use standing::Standing;
