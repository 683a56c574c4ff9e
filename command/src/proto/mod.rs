//! Wire messages of the command protocol, and of the talk between main and workers.
//!
//! Generated from `command/proto/*.proto` and checked in, so that a plain build needs neither protoc
//! nor a build script; the test `generated` regenerates and compares. Nothing here is checked: see
//! [`crate::order`] for what turns a message into something that can be relied on.

mod address;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::cast_possible_truncation, reason = "generated; documented in command.proto")]
mod command;
mod secret;
#[rustfmt::skip]
#[allow(missing_docs, reason = "generated; documented in supervision.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod supervision;
#[rustfmt::skip]
#[allow(missing_docs, reason = "generated; documented in hand_over.proto")]
#[allow(clippy::all, reason = "generated")]
pub mod hand_over;

pub use address::AddressError;
pub use command::*;

impl From<request::RequestType> for Request {
    fn from(request_type: request::RequestType) -> Self {
        Self { request_type: Some(request_type) }
    }
}
