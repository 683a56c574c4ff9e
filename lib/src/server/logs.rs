//! What main says of logs.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use kakehi_command::proto::supervision::log_target::Kind;
use kakehi_command::proto::supervision::{Boot, LogTarget};

use crate::access_log::{Format, Redaction, Settings};
use crate::net::log_sink::LogSink;

/// How accesses are logged, if main says so.
pub(super) fn settings(boot: &Boot) -> Option<Settings> {
    let wire = boot.config.access_logs.as_ref()?;
    let mut redaction = Redaction::default();
    for key in &wire.redact {
        if !redaction.add(key) {
            log::warn!("access_logs_redact: {key:?} is not known to this version");
        }
    }
    Some(Settings {
        format: match wire.format.as_str() {
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            _ => Format::Text { colored: wire.colored },
        },
        buffer_bytes: usize::try_from(wire.buffer_bytes).unwrap_or(usize::MAX),
        sampling_ppm: 1_000_000 / wire.one_in.max(1),
        keeps_errors: wire.keep_errors,
        redaction,
        tag: format!("WRK-{:02}", boot.worker_id),
        worker: boot.worker_id,
    })
}

/// Whether a descriptor comes with it.
pub(super) fn has_descriptor(target: &LogTarget) -> bool {
    target.kind() != Kind::Tcp
}

/// Where a log goes; none if that is not understood.
pub(super) fn sink(target: &LogTarget, fd: Option<OwnedFd>) -> Option<LogSink> {
    Some(match (target.kind(), fd) {
        (Kind::Tcp, _) => LogSink::tcp(target.address().parse::<SocketAddr>().ok()?),
        (Kind::File, Some(fd)) => LogSink::File(fd.into()),
        (Kind::Pipe, Some(fd)) => LogSink::Pipe { file: fd.into(), shared: false },
        (Kind::SharedPipe, Some(fd)) => LogSink::Pipe { file: fd.into(), shared: true },
        (Kind::Datagrams, Some(fd)) => LogSink::Datagrams(fd),
        (Kind::Stream, Some(fd)) => LogSink::Stream(fd),
        (_, None) => return None,
    })
}
