//! The main process: it owns the state and the listening sockets, watches the workers, and serves the
//! command socket. No traffic passes through it.
//!
//! One thread, one `mio::Poll` ([`supervisor`]). What may block (files, parsing, name resolution) runs
//! on one helper thread ([`files`]). The pure parts ([`backoff`], [`gather`], [`feed`], [`merge`])
//! know neither sockets nor clocks. Read [`start::run`] first, then
//! [`supervisor::Supervisor`].

mod adoption;
mod audit;
mod backoff;
mod clients;
mod closed;
mod command_socket;
mod dangling;
mod dispatch;
mod drains;
mod expiry;
mod feed;
mod files;
mod gather;
mod hand_over;
mod health;
mod limits;
mod logs;
mod merge;
mod mutations;
mod queries;
mod replacements;
mod sessions;
mod sockets;
mod soundness;
mod start;
mod stop;
mod summary;
mod supervisor;
mod tasks;
mod telemetry;
mod tickets;
mod vetting;
mod watch;
mod workers;

pub(crate) use hand_over::{PROTOCOL, examine, is_asked_for, run as take_over};
pub(crate) use start::{Ready, StartError, StartOptions, check_config, run};
pub(crate) use supervisor::Companion;
