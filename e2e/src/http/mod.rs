//! HTTP/1.1 as the tests speak it: a strict client ([`Client`]) and scripted backends ([`Backend`]),
//! on plain blocking sockets.
//!
//! Written without the proxy's own parser, and stricter than a real client would be: a lone LF, a
//! response with two framings or bytes after the end of a message are errors here.

pub mod backend;
mod client;
mod connection;
pub mod message;
mod restless;

pub use backend::{After, Backend, Exchange};
pub use client::{Client, get};
pub use message::{Fields, Framing, ReadError, RequestHead, Response, ResponseHead};
pub use restless::{Executed, RestlessBackend};
