//! What a Unix process needs around its work: logging, signals, resource limits, the PID file, and giving up
//! what it does not need.
//!
//! Nothing here knows what the process is for; the main process and the workers share it.

pub(crate) mod child;
pub(crate) mod descriptors;
pub(crate) mod log_target;
pub(crate) mod logging;
pub(crate) mod memory;
pub(crate) mod pid_file;
pub(crate) mod sandbox;
pub(crate) mod signals;
