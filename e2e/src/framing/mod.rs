//! What a proxy makes of messages that parsers read differently: vectors, a stage on which a proxy stands
//! between a client and a backend that are both played by the test, and a table of what was seen.
//!
//! One thread plays both sides ([`Stage`]), so nothing is waited for but events, and what a proxy sent
//! before it ended a connection has been seen when the next one begins.

mod peers;
mod stage;
mod table;
mod vectors;
mod wire;

pub use peers::Peer;
pub use stage::{Played, Reply, Stage};
pub use table::{ours_alone, render, versions};
pub use vectors::{Must, Vector, requests, responses};
pub use wire::{Answer, Body, Request, read_answers};
