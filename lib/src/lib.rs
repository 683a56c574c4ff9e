//! One worker: one thread, one loop, everything that carries traffic.
//!
//! Pure rooms ([`protocol`], [`routing`], [`policy`], [`balancing`], [`health`], [`tls`]) take bytes and time and give
//! back verdicts; [`session`] joins them to sockets; [`listener`] accepts; [`server`] is the loop. Only
//! [`net`] speaks to the kernel. Read [`server::Worker`] first.

pub mod access_log;
pub mod balancing;
pub mod health;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod protocol;
pub mod routing;
pub mod server;
pub mod session;
#[cfg(test)]
mod sim;
pub mod tls;
