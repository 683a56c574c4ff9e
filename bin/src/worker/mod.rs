//! The worker process: from `main` to the loop of [`kakehi_lib`].
//!
//! A worker is this program started again by the main process, with the channel to it as standard
//! input: that needs no descriptor number to be passed, and nothing else to be inheritable. Everything
//! else comes over the channel. The worker is in a process group of its own, and deaf to the signals
//! that stop the main process, which decides what happens to its connections. Before it reads a byte of
//! anybody it gives up what it will not need ([`crate::process::sandbox`]).

mod boot;

#[cfg(test)]
pub(crate) use boot::warm_up;
pub(crate) use boot::{
    ID_VARIABLE, LOG_COLORED_VARIABLE, LOG_TARGET_VARIABLE, SANDBOX_VARIABLE, UNIX_SOCKETS_VARIABLE, run,
};
