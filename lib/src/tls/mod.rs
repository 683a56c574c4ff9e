//! What turns configuration into rustls configurations, and server names into certificates.
//!
//! No sockets, no event loop: `net` drives handshakes with what is made here, and a test does so in memory.
//! Nothing is checked again that `kakehi_command::order` has checked. Read [`server_config`] first, then
//! [`resolver`], which rustls asks for a certificate in each handshake, and [`tickets`], which it asks to seal
//! and open sessions.
//!
//! A worker has one thread, and rustls wants what it calls back to be [`Sync`]: hence the locks in this room,
//! which nobody ever waits for.

pub mod certificates;
pub mod client_config;
pub mod clock;
pub mod failure;
mod identity;
pub mod material;
pub mod names;
pub mod ocsp;
pub mod provider;
pub mod resolver;
pub mod secrets;
pub mod server_config;
pub mod session_table;
pub mod sessions;
pub mod settings;
mod slot;
pub mod subject;
#[cfg(test)]
mod testing;
pub mod ticket_keys;
pub mod tickets;
