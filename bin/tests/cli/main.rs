//! The command line as operators and scripts see it: help, requests, output and exit status.
//!
//! The binary is run as it is; where it needs a proxy, a canned one answers. What a real proxy does with
//! the requests is tested in `e2e`. One program, so that it is linked once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails, in helpers too")]

mod answers;
mod config_check;
mod fake_proxy;
mod generated;
mod help;
mod logs;
mod reference;
mod responses;
mod support;
mod upgrade;
