//! Framed messages and file descriptors over a Unix stream socket.
//!
//! Both talks of the proxy use it: a controller's with the main process (the command socket), and the
//! main process' with its workers. [`codec`] is pure: bytes to frames and back. [`scm`] is the two
//! system calls that carry file descriptors. [`Channel`] joins them, non-blocking, for an event loop;
//! [`BlockingChannel`] wraps it for the CLI and for tools.
//!
//! It does not interpret messages, and it never retries, reconnects or logs: callers decide. Read
//! [`Channel`] first.

mod blocking;
#[allow(clippy::module_inception, reason = "the type the room is named after")]
mod channel;
pub mod codec;
pub mod scm;

pub use blocking::BlockingChannel;
pub use channel::{Channel, ChannelError, Flushed, Received};
pub use codec::{FrameError, FrameReader, LENGTH_BYTES, encode_frame};
pub use scm::FDS_PER_MESSAGE_MAX;

#[cfg(test)]
mod tests;
