//! The contract between a controller and the proxy.
//!
//! Wire messages ([`proto`]), checked orders ([`order`]), the configuration state ([`state`]), the
//! configuration file ([`config`]) and the framed Unix-socket channel ([`channel`]). A library for
//! config tools: it has no event loop and knows no HTTP. Read [`order::Order`] first.

pub mod channel;
pub mod config;
pub mod order;
pub mod proto;
pub mod state;
