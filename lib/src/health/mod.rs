//! Health: whether a backend is worth trying.
//!
//! Only passive health so far: what attempts to connect tell. Probes come later. Verdicts are returned,
//! never logged or counted here; time and randomness are handed in.

mod backoff;

pub use backoff::{BackendTurn, Backoff};
