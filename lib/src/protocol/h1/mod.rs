//! HTTP/1.0 and HTTP/1.1 messages on the wire (RFC 9112), read strictly and written canonically.
//!
//! What passes through is understood first and then written anew: a head is parsed in place by
//! [`head`], then [`write`](mod@write) makes a fresh one; a body is walked in place by [`body`].
//! Two neighbours can therefore never read two different messages out of our output, which is what
//! request smuggling needs. Where RFC 9112 lets a recipient choose between repairing and refusing,
//! we refuse.
//!
//! Read [`head::parse_request`] first, then [`body::BodyReader`], then [`write::write_request`].

pub mod body;
pub mod error;
pub mod forwarded;
pub mod head;
pub mod write;

mod classes;
mod fields;
mod head_writer;
mod lines;
pub mod scan;
mod target;

#[cfg(test)]
mod tests;
