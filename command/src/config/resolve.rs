//! The settings: what the file says, defaults for what it leaves out, and checks between keys.
//!
//! Pure: paths are joined, not looked at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostic::Diagnostics;
use super::file::{Present, Section};
use super::{Config, Origin, metrics};

/// Name of the command socket when the file does not say.
const SOCKET_NAME_DEFAULT: &str = "kakehi.sock";

/// Bytes of a decoded credential when the file says 0.
const BASIC_AUTH_BYTES_DEFAULT: usize = 4096;

/// At `max_connections` one of so many makes room, with `evict_on_queue_full`.
const EVICTED_DIVISOR: u64 = 100;

/// Longest path of a Unix socket: `sun_path` less its final NUL, unix(7). Bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Resolves everything but `orders` and `warnings`.
pub(super) fn settings(
    top: &Section<'_>,
    origin: &Origin,
    directory: &Path,
    diagnostics: &mut Diagnostics,
) -> Config {
    report_unserved(top, "", diagnostics);
    if top.integers("command_allowed_uids").is_some_and(|uids| uids.is_empty()) {
        let text = "allows nobody, not even to stop the proxy: name a user id, or leave the key out";
        diagnostics.error(top.place_of("command_allowed_uids"), "command_allowed_uids", text);
    }
    check_buffers(top, diagnostics);
    check_log(top, diagnostics);
    let max_buffers = size(top, "max_buffers");
    let workers = match (top.integer("worker_count"), origin) {
        (None, Origin::Embedded { cores, .. }) => (*cores).max(1),
        _ => u16::try_from(top.integer_or_default("worker_count")).expect("the declared range is within u16"),
    };
    let log_target = top.text("log_target").unwrap_or("stdout");
    let log_colored = top.flag("log_colored").unwrap_or(false);
    Config {
        command_socket: command_socket(top, directory, diagnostics),
        command_socket_mode: socket_mode(top, diagnostics),
        command_buffer_size: size(top, "command_buffer_size"),
        max_command_buffer_size: size(top, "max_command_buffer_size"),
        command_allowed_uids: top
            .integers("command_allowed_uids")
            .map(|uids| uids.into_iter().filter_map(|uid| u32::try_from(uid).ok()).collect()),
        max_command_clients: size(top, "max_command_clients"),
        max_command_clients_is_default: !top.has("max_command_clients"),
        ctl_command_timeout: Some(top.integer_or_default("ctl_command_timeout"))
            .filter(|milliseconds| *milliseconds > 0)
            .map(Duration::from_millis),
        saved_state: path(top, "saved_state", directory, diagnostics),
        pid_file_path: path(top, "pid_file_path", directory, diagnostics),
        audit_logs_target: path(top, "audit_logs_target", directory, diagnostics),
        audit_logs_json_target: path(top, "audit_logs_json_target", directory, diagnostics),
        log_level: top.text("log_level").unwrap_or("info").to_owned(),
        log_target: log_target.to_owned(),
        log_colored,
        max_log_rate: u32::try_from(top.integer_or_default("max_log_rate"))
            .expect("the declared range is within u32"),
        access_logs_target: top.text("access_logs_target").unwrap_or(log_target).to_owned(),
        access_logs_format: top.text("access_logs_format").unwrap_or("ascii").to_owned(),
        access_logs_colored: top.flag("access_logs_colored").unwrap_or(log_colored),
        access_log_buffer: size(top, "access_log_buffer"),
        access_logs_sampling: u32::try_from(top.integer_or_default("access_logs_sampling"))
            .expect("the declared range is within u32"),
        access_logs_keep_errors: top.flag("access_logs_keep_errors").unwrap_or(true),
        access_logs_redact: top.texts("access_logs_redact"),
        worker_count: workers,
        worker_automatic_restart: top.flag("worker_automatic_restart").unwrap_or(true),
        worker_timeout: timeout(top, "worker_timeout"),
        worker_drain_timeout: timeout(top, "worker_drain_timeout"),
        worker_orphan_timeout: u32::try_from(top.integer_or_default("worker_orphan_timeout"))
            .unwrap_or(u32::MAX),
        worker_sandbox: top.flag("worker_sandbox").unwrap_or(true),
        worker_unix_sockets: top
            .text("worker_unix_sockets")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        max_connections: size(top, "max_connections"),
        max_connections_is_default: !top.has("max_connections"),
        max_buffers,
        min_buffers: size(top, "min_buffers").min(max_buffers),
        buffer_size: size(top, "buffer_size"),
        max_header_fields: size(top, "max_header_fields"),
        max_idle_back_connections: size(top, "max_idle_back_connections"),
        back_idle_timeout: timeout(top, "back_idle_timeout"),
        evict_on_queue_full: evicts(top, diagnostics),
        max_connection_attempts: u8::try_from(top.integer_or_default("max_connection_attempts"))
            .expect("the declared range is that of u8"),
        splice_pipe_capacity_bytes: size(top, "splice_pipe_capacity_bytes"),
        max_splice_pipes: size(top, "max_splice_pipes"),
        max_record_buffers: size(top, "max_record_buffers"),
        max_handshakes: size(top, "max_handshakes"),
        max_probes: size(top, "max_probes"),
        max_early_data_sessions: size(top, "max_early_data_sessions"),
        basic_auth_max_credential_bytes: credential_bytes(top, diagnostics),
        retry_after: u32::try_from(top.integer_or_default("retry_after"))
            .expect("the declared range is that of u32"),
        subnet_ipv4_prefix: prefix(top, "subnet_ipv4_prefix"),
        subnet_ipv6_prefix: prefix(top, "subnet_ipv6_prefix"),
        max_limit_entries: size(top, "max_limit_entries"),
        front_timeout: timeout(top, "front_timeout"),
        back_timeout: timeout(top, "back_timeout"),
        connect_timeout: timeout(top, "connect_timeout"),
        request_timeout: timeout(top, "request_timeout"),
        metrics: metrics::resolve(top, diagnostics),
        activate_listeners: top.flag("activate_listeners").unwrap_or(true),
        orders: Vec::new(),
        probe_secrets: Vec::new(),
        warnings: Vec::new(),
        listener_places: HashMap::new(),
        cluster_places: HashMap::new(),
        certificate_places: HashMap::new(),
    }
}

/// Whether idle connections make room for new ones. Of few connections each that goes is missed.
fn evicts(top: &Section<'_>, diagnostics: &mut Diagnostics) -> bool {
    let name = "evict_on_queue_full";
    let evicts = top.flag(name).unwrap_or(false);
    let most = top.integer_or_default("max_connections");
    if evicts && most < EVICTED_DIVISOR {
        let text =
            format!("with max_connections = {most} each connection that makes room is more than 1 % of them");
        diagnostics.warning(top.place_of(name), top.key_path(name), text);
    }
    evicts
}

/// Says, for each key of a section that is used and not served, what comes of it. `protocol` is that of the
/// listener that the section is about, or on.
pub(super) fn report_unserved(section: &Section<'_>, protocol: &str, diagnostics: &mut Diagnostics) {
    for present in section.present().filter(Present::is_used) {
        let path = section.key_path(present.key.name);
        match present.key.served.remark(protocol) {
            Some(Ok(text)) => diagnostics.warning(present.place, path, text),
            Some(Err(text)) => diagnostics.error(present.place, path, text),
            None => {}
        }
    }
}

fn timeout(top: &Section<'_>, name: &str) -> Duration {
    Duration::from_secs(top.integer_or_default(name))
}

/// The bits of a network.
fn prefix(top: &Section<'_>, name: &str) -> u8 {
    u8::try_from(top.integer_or_default(name)).expect("the declared range is within u8")
}

/// A size or count, as wide as this machine counts.
fn size(top: &Section<'_>, name: &str) -> usize {
    usize::try_from(top.integer_or_default(name)).unwrap_or(usize::MAX)
}

/// 0 stands for the default, as in Sōzu.
fn credential_bytes(top: &Section<'_>, diagnostics: &mut Diagnostics) -> usize {
    let name = "basic_auth_max_credential_bytes";
    let bytes = match size(top, name) {
        0 => BASIC_AUTH_BYTES_DEFAULT,
        bytes => bytes,
    };
    let buffer = size(top, "buffer_size");
    // In a request it stands in Base64, four bytes for three, beside everything else in the head.
    if top.has(name) && bytes >= buffer / 3 {
        let text = format!(
            "{bytes} is a third of buffer_size ({buffer}) or more: heads that hold as much may not fit"
        );
        diagnostics.warning(top.place_of(name), name, text);
    }
    bytes
}

fn path(top: &Section<'_>, name: &str, directory: &Path, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let path = top.text(name)?;
    if path.is_empty() || path.contains('\0') {
        diagnostics.error(top.place_of(name), name, "is not a path");
    }
    Some(directory.join(path))
}

fn command_socket(top: &Section<'_>, directory: &Path, diagnostics: &mut Diagnostics) -> PathBuf {
    let name = "command_socket";
    let socket =
        path(top, name, directory, diagnostics).unwrap_or_else(|| directory.join(SOCKET_NAME_DEFAULT));
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let text = format!(
            "\"{}\" has {bytes} bytes; the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX}",
            socket.display()
        );
        diagnostics.error(top.place_of(name), name, text);
    }
    socket
}

/// `"0600"`: one to four octal digits that leave the owner able to connect.
fn socket_mode(top: &Section<'_>, diagnostics: &mut Diagnostics) -> u32 {
    const OWNER: u32 = 0o600;
    let name = "command_socket_mode";
    let Some(text) = top.text(name) else { return OWNER };
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    let complaint = match mode {
        None => {
            format!("\"{}\" is not a mode of up to four octal digits, \"0777\" at most", text.escape_debug())
        }
        Some(mode) if mode & OWNER != OWNER => {
            format!("\"{text}\" would shut out the owner: the mode has to contain 0600")
        }
        Some(mode) => return mode,
    };
    diagnostics.error(top.place_of(name), name, complaint);
    OWNER
}

fn check_buffers(top: &Section<'_>, diagnostics: &mut Diagnostics) {
    let first = size(top, "command_buffer_size");
    let max = size(top, "max_command_buffer_size");
    if first > max {
        // Said where the file says it: one of the two may be a default.
        let name = if top.has("max_command_buffer_size") {
            "max_command_buffer_size"
        } else {
            "command_buffer_size"
        };
        let text = format!("max_command_buffer_size ({max}) is smaller than command_buffer_size ({first})");
        diagnostics.error(top.place_of(name), name, text);
    }
    if top.flag("automatic_state_save") == Some(true) && !top.has("saved_state") {
        let name = "automatic_state_save";
        diagnostics.error(top.place_of(name), name, "needs saved_state, the file to save to");
    }
}

fn check_log(top: &Section<'_>, diagnostics: &mut Diagnostics) {
    if let Some(filter) = top.text("log_level") {
        for directive in filter.split(',').map(str::trim) {
            if !is_directive(directive) {
                let text = format!(
                    "\"{}\" is neither a level (off, error, warn, info, debug, trace) nor module::path=level",
                    directive.escape_debug()
                );
                diagnostics.error(top.place_of("log_level"), "log_level", text);
            }
        }
    }
    for key in ["log_target", "access_logs_target"] {
        let Some(target) = top.text(key) else { continue };
        let is_fine = match target.split_once("://") {
            None => target == "stdout" || (target == "none" && key == "access_logs_target"),
            Some(("file" | "unix", path)) => !path.is_empty(),
            Some(("udp" | "tcp", to)) => to.parse::<std::net::SocketAddr>().is_ok(),
            Some(_) => false,
        };
        if !is_fine {
            let none = if key == "log_target" { "" } else { ", none" };
            let text = format!(
                "\"{}\" is not one of stdout, file://PATH, udp://IP:PORT, tcp://IP:PORT, unix://PATH{none}",
                target.escape_debug()
            );
            diagnostics.error(top.place_of(key), key, text);
        }
    }
}

fn is_directive(directive: &str) -> bool {
    let is_level = |level: &str| level.parse::<log::LevelFilter>().is_ok();
    match directive.split_once('=') {
        Some((module, level)) => !module.trim().is_empty() && is_level(level.trim()),
        None => is_level(directive) || directive.contains("::"),
    }
}
