//! Black box: what the tests under `tests/` need to drive the real binary against real peers.
//!
//! The proxy under test is a process ([`Proxy`]); it is spoken to by TCP ([`http`]), by its command
//! socket ([`CommandClient`]) and by its command line ([`Cli`]). Nothing here links the proxy: of the
//! workspace only the wire messages are shared, and even the framing is written a second time, so
//! that a mistake in ours is seen.
//!
//! Rules of the house:
//! - Ports come from the kernel ([`address`]); every wait has a deadline ([`deadline`]).
//! - A helper panics with everything needed to understand the failure; tests read top-down.
//! - A system peer that is missing (nginx) skips its test loudly, never silently.

#![expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test harness: a broken expectation is a failed test, and it is the outside world"
)]

pub mod address;
mod binary;
mod cli;
mod command;
pub mod content;
pub mod deadline;
pub mod framing;
pub mod haproxy;
pub mod http;
pub mod load;
pub mod nginx;
pub mod postgres;
pub mod process;
mod proxy;
mod queries;
pub mod redis;
pub mod requests;
pub mod rules;
mod skip;
pub mod tcp;
pub mod tls;
pub mod unix;

pub use binary::kakehi_binary;
pub use cli::{Cli, CliOutput};
pub use command::{CommandClient, ReceiveError};
pub use proxy::{Proxy, ProxyBuilder, await_replaced, send_signal};
pub use skip::skipped;
