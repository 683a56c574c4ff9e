//! Every key of the configuration file: its name, shape, default, and whether this version serves it.
//!
//! A flat table, so that a key that is not here cannot be read (`file::Section` asserts it), a key that
//! is here cannot be forgotten in the embedded `config.toml` (a test compares them, defaults included),
//! and serving one more is a change of one word. Ranges that only hold between keys are in `resolve`.

use crate::order::{MAX_EARLY_DATA_MAX, RATE_MAX};

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The default as written in TOML; empty when leaving the key out means something else, or when
    /// the key is required.
    pub(super) default: &'static str,
    pub(super) served: Served,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Flag,
    /// An integer in a range, both ends included.
    Integer {
        min: u64,
        max: u64,
    },
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in any case, `_` and `-` alike.
    OneOfAnyCase(&'static [&'static str]),
    /// `IP:PORT`.
    Address,
    /// Texts.
    Texts,
    /// Texts out of these.
    TextsOf(&'static [&'static str]),
    /// Integers in a range.
    Integers {
        max: u64,
    },
    /// A table of texts under names of the operator's choice.
    TextMap,
    Table(&'static [Key]),
    /// `[[listeners]]`
    Tables(&'static [Key]),
    /// `[clusters.NAME]`
    NamedTables(&'static [Key]),
}

/// What this version does with a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Served {
    Yes,
    /// Leaving it out of account is harmless: a warning when it is used.
    NotYet,
    /// Leaving it out of account would do the wrong thing, which the text names: an error.
    NotIgnorable(&'static str),
    /// It has a meaning on another kind of listener only: a warning.
    OnlyFor(&'static str),
    /// It would promise what only another kind of listener can keep: an error.
    Misplaced(&'static str),
    /// Accepted for compatibility, and needless here for the reason given: not worth a warning.
    Needless,
}

use Served::{Misplaced, Needless, NotIgnorable, NotYet, OnlyFor, Yes};
use Shape::{
    Address, Flag, Integer, Integers, NamedTables, OneOf, OneOfAnyCase, Table, Tables, Text, TextMap, Texts,
    TextsOf,
};

const fn key(name: &'static str, shape: Shape, default: &'static str, served: Served) -> Key {
    Key { name, shape, default, served }
}

const fn up_to(max: u64) -> Shape {
    Integer { min: 0, max }
}

const fn from_one(max: u64) -> Shape {
    Integer { min: 1, max }
}

const U8: u64 = u8::MAX as u64;
const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;
/// So many a second.
const RATE: u64 = RATE_MAX as u64;
/// TOML's own limit: its integers are signed.
const I64: u64 = i64::MAX as u64;

/// The smallest buffer: a head with usual cookies, and every answer of ours, fit.
const BUFFER_BYTES_MIN: u64 = 4096;
/// The largest buffer; offsets within one are counted in 32 bits.
const BUFFER_BYTES_MAX: u64 = 1 << 30;
/// The smallest ceiling of a command channel: the largest message with all its parts at their bounds.
const COMMAND_BYTES_MIN: u64 = 4096;

/// Fewer buffers than this cannot carry one request and its answer at a time with the reserves kept.
const BUFFERS_MIN: u64 = 8;

/// More would only be a typing error: 16 GiB of default buffers, in each worker.
const BUFFERS_MAX: u64 = 1 << 20;

#[rustfmt::skip]
pub(super) static TOP: &[Key] = &[
    key("command_socket", Text, "", Yes),
    key("command_socket_mode", Text, "\"0600\"", Yes),
    key("command_buffer_size", Integer { min: COMMAND_BYTES_MIN, max: U32 }, "1000000", Yes),
    key("max_command_buffer_size", Integer { min: COMMAND_BYTES_MIN, max: U32 }, "2000000", Yes),
    key("command_allowed_uids", Integers { max: U32 }, "", Yes),
    key("max_command_clients", from_one(U16), "1024", Yes),
    key("ctl_command_timeout", up_to(I64), "1000", Yes),
    key("saved_state", Text, "", Yes),
    key("automatic_state_save", Flag, "false", NotYet),
    key("pid_file_path", Text, "", Yes),
    key("log_level", Text, "\"info\"", Yes),
    key("log_target", Text, "\"stdout\"", Yes),
    key("log_colored", Flag, "false", Yes),
    key("max_log_rate", from_one(U32), "5000", Yes),
    key("access_logs_target", Text, "", Yes),
    key("access_logs_format", OneOf(&["ascii", "json", "protobuf"]), "\"ascii\"", Yes),
    key("access_logs_colored", Flag, "", Yes),
    key("access_log_buffer", Integer { min: 8192, max: U32 }, "1048576", Yes),
    key("access_logs_sampling", from_one(1_000_000), "1", Yes),
    key("access_logs_keep_errors", Flag, "true", Yes),
    key("access_logs_redact", REDACTED, "[]", Yes),
    key("audit_logs_target", Text, "", Yes),
    key("audit_logs_json_target", Text, "", Yes),
    key("worker_count", from_one(1024), "2", Yes),
    key("worker_automatic_restart", Flag, "true", Yes),
    key("worker_timeout", from_one(U32), "10", Yes),
    key("worker_drain_timeout", from_one(U32), "120", Yes),
    key("worker_orphan_timeout", Integer { min: 0, max: U32 }, "0", Yes),
    key("worker_sandbox", Flag, "true", Yes),
    key("worker_unix_sockets", OneOf(&["any", "paths", "none"]), "\"any\"", Yes),
    // Parsed and never acted on by Sōzu either.
    key("handle_process_affinity", Flag, "false", NotYet),
    key("max_connections", from_one(U32), "10000", Yes),
    key("max_buffers", Integer { min: BUFFERS_MIN, max: BUFFERS_MAX }, "1000", Yes),
    key("min_buffers", up_to(BUFFERS_MAX), "1", Yes),
    key("buffer_size", Integer { min: BUFFER_BYTES_MIN, max: BUFFER_BYTES_MAX }, "16393", Yes),
    // Our tables grow by themselves, up to what max_connections asks for.
    key("slab_entries_per_connection", up_to(I64), "4", Needless),
    key("max_header_fields", Integer { min: 16, max: 256 }, "128", Yes),
    key("max_idle_back_connections", from_one(U32), "64", Yes),
    key("back_idle_timeout", from_one(U32), "55", Yes),
    key("max_connections_per_ip", up_to(I64), "0", Yes),
    key("max_connections_per_subnet", up_to(I64), "0", Yes),
    key("subnet_ipv4_prefix", up_to(32), "32", Yes),
    key("subnet_ipv6_prefix", up_to(128), "128", Yes),
    key("max_connection_attempts", from_one(U8), "5", Yes),
    key("retry_after", up_to(U32), "60", Yes),
    key("evict_on_queue_full", Flag, "false", Yes),
    // 0: twice max_connections for each worker.
    key("max_limit_entries", up_to(1 << 24), "0", Yes),
    key("basic_auth_max_credential_bytes", up_to(BUFFER_BYTES_MAX), "4096", Yes),
    // Less than a page is no pipe, and the kernel's own bound is far below this one.
    key("splice_pipe_capacity_bytes", Integer { min: 4096, max: BUFFER_BYTES_MAX }, "1048576", Yes),
    key("max_splice_pipes", up_to(U16), "256", Yes),
    key("max_record_buffers", from_one(U32), "1000", Yes),
    key("max_handshakes", from_one(U32), "1000", Yes),
    key("max_probes", from_one(U32), "256", Yes),
    // Half a KiB each.
    key("max_early_data_sessions", Integer { min: 1, max: 1 << 20 }, "16384", Yes),
    key("front_timeout", from_one(U32), "60", Yes),
    key("back_timeout", from_one(U32), "30", Yes),
    key("connect_timeout", from_one(U32), "3", Yes),
    key("request_timeout", from_one(U32), "10", Yes),
    // Connections beyond max_connections wait in the kernel's queue, and every session has a timer of
    // its own: neither a queue of ours nor a search for forgotten sessions exists.
    key("accept_queue_timeout", up_to(U32), "60", Needless),
    key("zombie_check_interval", up_to(U32), "1800", Needless),
    key("activate_listeners", Flag, "true", Yes),
    key("disable_cluster_metrics", Flag, "false", Yes),
    key("metrics", Table(METRICS), "", Yes),
    key("listeners", Tables(LISTENER), "", Yes),
    key("clusters", NamedTables(CLUSTER), "", Yes),
];

#[rustfmt::skip]
pub(super) static METRICS: &[Key] = &[
    key("address", Address, "", Yes),
    key("tagged_metrics", Flag, "false", Yes),
    key("prefix", Text, "\"sozu\"", Yes),
    key("detail", OneOf(&["process", "frontend", "cluster", "backend"]), "\"cluster\"", Yes),
    // 4.2 KB each at most, in each worker.
    key("max_series", up_to(1 << 20), "4096", Yes),
    key("prometheus_address", Address, "", Yes),
    key("prometheus_max_connections", from_one(1024), "16", Yes),
    key("prometheus_timeout", from_one(3600), "10", Yes),
];

/// What can be left out of access logs.
const REDACTED: Shape = TextsOf(&[
    "client",
    "client.host",
    "host",
    "path",
    "path.query",
    "user_agent",
    "x_request_id",
    "sni",
    "tags",
]);

const TLS_VERSIONS: Shape = TextsOf(&["SSL_V2", "SSL_V3", "TLS_V10", "TLS_V11", "TLS_V12", "TLS_V13"]);
const HTTPS: Served = OnlyFor("https");
const H2: Served = NotYet;

#[rustfmt::skip]
pub(super) static LISTENER: &[Key] = &[
    key("address", Address, "", Yes),
    key("protocol", OneOf(&["http", "https", "tcp", "udp"]), "", Yes),
    key("interface", Text, "", Yes),
    key("public_address", Address, "", Yes),
    key("expect_proxy", Flag, "false", Yes),
    key("expect_proxy_from", Texts, "[]", Yes),
    key("front_timeout", from_one(U32), "60", Yes),
    key("back_timeout", from_one(U32), "30", Yes),
    key("connect_timeout", from_one(U32), "3", Yes),
    key("request_timeout", from_one(U32), "10", Yes),
    key("sozu_id_header", Text, "\"Sozu-Id\"", Yes),
    key("forwarded_headers", OneOf(&["both", "x_forwarded", "rfc7239", "none"]), "\"both\"", Yes),
    key("elide_x_real_ip", Flag, "false", Yes),
    key("send_x_real_ip", Flag, "false", Yes),
    key("trusted_proxies", Texts, "[]", Yes),
    key("trace_context", OneOf(&["pass", "make"]), "\"pass\"", Yes),
    key("tunnel_timeout", from_one(U32), "3600", Yes),
    key("max_request_line", Integer { min: 256, max: U32 }, "8192", Yes),
    key("max_body_bytes", up_to(I64), "0", Yes),
    key("min_transfer_rate", up_to(U32), "240", Yes),
    key("rate_limits", Tables(RATE_LIMIT), "[]", Yes),
    key("max_connections", up_to(I64), "0", Yes),
    key("max_connections_per_source", up_to(I64), "0", Yes),
    key("max_accept_rate", up_to(RATE), "0", Yes),
    key("over_limit", OneOf(&["answer", "close"]), "\"answer\"", Yes),
    key("sticky_name", Text, "\"SOZUBALANCEID\"", Yes),
    key("answer_301", Text, "", Yes),
    key("answer_400", Text, "", Yes),
    key("answer_401", Text, "", Yes),
    key("answer_404", Text, "", Yes),
    key("answer_408", Text, "", Yes),
    key("answer_413", Text, "", Yes),
    key("answer_421", Text, "", Yes),
    key("answer_429", Text, "", Yes),
    key("answer_502", Text, "", Yes),
    key("answer_503", Text, "", Yes),
    key("answer_504", Text, "", Yes),
    key("answer_507", Text, "", Yes),
    key("answers", TextMap, "", Yes),
    key("tls_versions", TLS_VERSIONS, "[\"TLS_V12\", \"TLS_V13\"]", HTTPS),
    key("cipher_list", Texts, "", HTTPS),
    key("cipher_suites", Texts, "", HTTPS),
    key("groups_list", Texts, "[\"X25519MLKEM768\", \"x25519\", \"P-256\", \"P-384\"]", HTTPS),
    key("certificate", Text, "", HTTPS),
    key("key", Text, "", HTTPS),
    key("certificate_chain", Text, "", HTTPS),
    key("send_tls13_tickets", up_to(I64), "4", HTTPS),
    key("client_subject_header", Text, "", HTTPS),
    key("max_early_data", up_to(MAX_EARLY_DATA_MAX as u64), "0", HTTPS),
    key("handshake_timeout", from_one(U32), "10", HTTPS),
    key("max_handshakes_per_source", up_to(U32), "500", HTTPS),
    // A TCP listener offers whatever its backends speak; what HTTPS can offer is for the order to check.
    key("alpn_protocols", Texts, "[\"h2\", \"http/1.1\"]", HTTPS),
    key("strict_sni_binding", Flag, "true", HTTPS),
    key("disable_http11", Flag, "false", HTTPS),
    key("client_auth", OneOf(&["none", "optional", "required"]), "\"none\"", Misplaced("https")),
    key("client_ca_certificates", Texts, "", Misplaced("https")),
    key("client_ca_crls", Texts, "", Misplaced("https")),
    key("hsts", Table(HSTS), "", Misplaced("https")),
    key("h2_max_rst_stream_per_window", from_one(U32), "2000", H2),
    key("h2_max_ping_per_window", from_one(U32), "2000", H2),
    key("h2_max_settings_per_window", from_one(U32), "1000", H2),
    key("h2_max_empty_data_per_window", from_one(U32), "2000", H2),
    key("h2_max_window_update_stream0_per_window", from_one(U32), "2000", H2),
    key("h2_max_continuation_frames", from_one(U32), "20", H2),
    key("h2_max_glitch_count", from_one(U32), "2000", H2),
    key("h2_max_rst_stream_lifetime", from_one(I64), "200000", H2),
    key("h2_max_rst_stream_abusive_lifetime", from_one(I64), "1000", H2),
    key("h2_max_rst_stream_emitted_lifetime", from_one(I64), "10000", H2),
    key("h2_stream_refusal_percent", up_to(U32), "50", H2),
    key("h2_initial_connection_window", from_one(U32), "16777216", H2),
    key("h2_max_concurrent_streams", from_one(U32), "100", H2),
    key("h2_stream_shrink_ratio", Integer { min: 2, max: U32 }, "2", H2),
    key("h2_max_header_list_size", from_one(U32), "65536", H2),
    key("h2_max_header_table_size", up_to(U32), "65536", H2),
    key("h2_max_header_fields", from_one(U32), "128", H2),
    key("h2_stream_idle_timeout_seconds", up_to(U32), "30", H2),
    key("h2_graceful_shutdown_deadline_seconds", up_to(U32), "5", H2),
    key("tls", Flag, "false", OnlyFor("tcp")),
    key("sni_preread_timeout", from_one(U32), "5", OnlyFor("tcp")),
    key("sni_preread_max_bytes", Integer { min: 5, max: U32 }, "16384", OnlyFor("tcp")),
    key("max_rx_datagram_size", up_to(U32), "1500", OnlyFor("udp")),
    key("max_flows", up_to(U32), "0", OnlyFor("udp")),
];

#[rustfmt::skip]
pub(super) static HSTS: &[Key] = &[
    key("enabled", Flag, "", Yes),
    key("max_age", up_to(U32), "31536000", Yes),
    key("include_subdomains", Flag, "false", Yes),
    key("preload", Flag, "false", Yes),
    key("force_replace_backend", Flag, "false", Yes),
];

#[rustfmt::skip]
pub(super) static BACKEND_TLS: &[Key] = &[
    key("enabled", Flag, "true", Yes),
    key("server_name", Text, "", Yes),
    key("ca_certificates", Texts, "[]", Yes),
    key("skip_verification", Flag, "false", Yes),
    key("client_certificate", Text, "", Yes),
    key("client_key", Text, "", Yes),
    key("alpn", TextsOf(&["h2", "http/1.1"]), "[\"http/1.1\"]", Yes),
];

#[rustfmt::skip]
pub(super) static CLUSTER: &[Key] = &[
    key("protocol", OneOf(&["http", "tcp"]), "", Yes),
    key("frontends", Tables(FRONTEND), "", Yes),
    key("backends", Tables(BACKEND), "", Yes),
    key("load_balancing", OneOf(&["ROUND_ROBIN", "RANDOM", "LEAST_LOADED", "POWER_OF_TWO", "HRW", "MAGLEV"]), "\"ROUND_ROBIN\"", Yes),
    key("load_metric", OneOf(&["CONNECTIONS", "REQUESTS", "CONNECTION_TIME"]), "\"CONNECTIONS\"", Yes),
    key("max_connection_attempts", from_one(U8), "5", Yes),
    key("max_connections", up_to(U32), "0", Yes),
    key("max_connections_per_backend", up_to(U32), "0", Yes),
    key("max_queue", up_to(U32), "0", Yes),
    key("queue_timeout_ms", Integer { min: 1, max: 600_000 }, "1000", Yes),
    key("sticky_session", Flag, "false", Yes),
    key("sticky_secure", Flag, "false", Yes),
    key("sticky_http_only", Flag, "false", Yes),
    key("sticky_same_site", OneOf(&["STRICT", "LAX", "NONE"]), "", Yes),
    key("slow_start", up_to(U32), "0", Yes),
    key("https_redirect", Flag, "false", Yes),
    key("https_redirect_port", up_to(U16), "443", Yes),
    key("send_proxy", Flag, "false", Yes),
    key("send_proxy_version", Integer { min: 1, max: 2 }, "2", Yes),
    key("http2", Flag, "false", NotIgnorable("backends that speak HTTP/2 would be spoken to in HTTP/1.1")),
    key("answer_503", Text, "", Yes),
    key("answers", TextMap, "", Yes),
    key("authorized_hashes", Texts, "[]", Yes),
    key("www_authenticate", Text, "", Yes),
    key("max_connections_per_ip", up_to(I64), "0", Yes),
    key("max_connections_per_subnet", up_to(I64), "0", Yes),
    key("retry_after", up_to(U32), "60", Yes),
    key("affinity_header", Text, "", Yes),
    key("affinity_cookie", Text, "", Yes),
    key("shard_percent", Integer { min: 1, max: 100 }, "", Yes),
    key("shard_min_backends", Integer { min: 2, max: U32 }, "8", Yes),
    key("shard_mode", OneOf(&["FALLBACK", "STRICT"]), "\"FALLBACK\"", Yes),
    key("tls", Table(BACKEND_TLS), "", Yes),
    key("health_check", Table(HEALTH_CHECK), "", Yes),
    key("passive_health", Table(PASSIVE_HEALTH), "", Yes),
    key("panic_threshold", up_to(100), "", Yes),
    key("retry_budget_percent", up_to(100), "", Yes),
    key("rate_limits", Tables(RATE_LIMIT), "[]", Yes),
    key("udp", Table(UDP), "", OnlyFor("udp")),
];

#[rustfmt::skip]
pub(super) static FRONTEND: &[Key] = &[
    key("address", Address, "", Yes),
    key("hostname", Text, "", Yes),
    key("path", Text, "\"\"", Yes),
    key("path_type", OneOf(&["PREFIX", "REGEX", "EQUALS"]), "\"PREFIX\"", Yes),
    key("method", Text, "", Yes),
    key("position", OneOf(&["PRE", "POST", "TREE"]), "\"TREE\"", Yes),
    key("tags", TextMap, "{}", Yes),
    // Whether a certificate is in its place depends on the listener: see `resolve`.
    key("certificate", Text, "", Yes),
    key("key", Text, "", Yes),
    key("certificate_chain", Text, "", Yes),
    key("tls_versions", TLS_VERSIONS, "[]", HTTPS),
    key("alpn", Texts, "[]", OnlyFor("tcp")),
    key("redirect", OneOfAnyCase(&["forward", "permanent", "found", "permanent_redirect", "unauthorized", "silent_close"]), "\"forward\"", Yes),
    key("redirect_scheme", OneOfAnyCase(&["use-same", "use-http", "use-https"]), "\"use-same\"", Yes),
    key("redirect_template", Text, "", Yes),
    key("rewrite_host", Text, "", Yes),
    key("rewrite_path", Text, "", Yes),
    key("rewrite_port", from_one(U16), "", Yes),
    key("required_auth", Flag, "false", Yes),
    key("headers", Tables(HEADER), "[]", Yes),
    key("header_predicates", Tables(HEADER_PREDICATE), "[]", Yes),
    key("hsts", Table(HSTS), "", Misplaced("https")),
];

#[rustfmt::skip]
pub(super) static HEADER: &[Key] = &[
    key("position", OneOf(&["request", "response", "both"]), "", Yes),
    key("key", Text, "", Yes),
    key("value", Text, "", Yes),
];

#[rustfmt::skip]
pub(super) static HEADER_PREDICATE: &[Key] = &[
    key("name", Text, "", Yes),
    key("match", OneOf(&["exact", "regex", "present"]), "", Yes),
    key("value", Text, "", Yes),
];

#[rustfmt::skip]
pub(super) static BACKEND: &[Key] = &[
    key("address", Text, "", Yes),
    key("backend_id", Text, "", Yes),
    key("weight", up_to(U8), "100", Yes),
    key("backup", Flag, "false", Yes),
    key("draining", Flag, "false", Yes),
    key("max_connections", up_to(U32), "", Yes),
    key("sticky_id", Text, "", Yes),
    key("unix_path", Text, "", Yes),
];

#[rustfmt::skip]
pub(super) static HEALTH_CHECK: &[Key] = &[
    key("mode", OneOf(&["HTTP", "TCP"]), "\"HTTP\"", Yes),
    key("uri", Text, "\"/\"", Yes),
    key("interval", from_one(U32), "10", Yes),
    key("timeout", from_one(U32), "5", Yes),
    key("healthy_threshold", from_one(U32), "3", Yes),
    key("unhealthy_threshold", from_one(U32), "3", Yes),
    key("expected_status", up_to(U32), "0", Yes),
    key("accepted_statuses", Texts, "[]", Yes),
    key("port", from_one(U16), "", Yes),
    key("host", Text, "", Yes),
    key("jitter_percent", up_to(100), "10", Yes),
    key("headers", Tables(HEALTH_HEADER), "[]", Yes),
];

#[rustfmt::skip]
pub(super) static HEALTH_HEADER: &[Key] = &[
    key("name", Text, "", Yes),
    key("value_file", Text, "", Yes),
];

#[rustfmt::skip]
pub(super) static RATE_LIMIT: &[Key] = &[
    key("key", Text, "", Yes),
    key("rate", from_one(RATE), "", Yes),
    key("burst", from_one(RATE), "", Yes),
];

#[rustfmt::skip]
pub(super) static PASSIVE_HEALTH: &[Key] = &[
    key("consecutive_failures", from_one(U32), "5", Yes),
    key("base_ejection", from_one(U32), "30", Yes),
    key("max_ejection", from_one(U32), "300", Yes),
    key("max_ejected_percent", Integer { min: 1, max: 100 }, "10", Yes),
    key("count_server_errors", Flag, "true", Yes),
];

#[rustfmt::skip]
pub(super) static UDP: &[Key] = &[
    key("affinity_key", OneOf(&["SOURCE_IP", "SOURCE_IP_PORT"]), "\"SOURCE_IP\"", NotYet),
    key("responses", up_to(U32), "0", NotYet),
    key("requests", up_to(U32), "0", NotYet),
    key("send_proxy_protocol", Flag, "false", NotYet),
    key("proxy_protocol_every_datagram", Flag, "false", NotYet),
    key("health", Table(UDP_HEALTH), "", NotYet),
];

#[rustfmt::skip]
pub(super) static UDP_HEALTH: &[Key] = &[
    key("mode", OneOf(&["HEALTH_OFF", "TCP_PROBE", "UDP_PROBE"]), "\"TCP_PROBE\"", NotYet),
    key("tcp_port", from_one(U16), "", NotYet),
    key("rise", up_to(U32), "2", NotYet),
    key("fall", up_to(U32), "3", NotYet),
    key("fail_open", Flag, "true", NotYet),
    key("udp_probe_payload", Text, "", NotYet),
    key("probe_interval_seconds", up_to(U32), "5", NotYet),
    key("probe_timeout_seconds", up_to(U32), "2", NotYet),
];

/// Every table of the file with the name an operator knows it by.
pub(super) static SECTIONS: &[(&str, &[Key])] = &[
    ("the top level", TOP),
    ("[metrics]", METRICS),
    ("[[listeners]]", LISTENER),
    ("[clusters.NAME]", CLUSTER),
    ("a cluster's frontends", FRONTEND),
    ("a cluster's backends", BACKEND),
    ("a cluster's health_check", HEALTH_CHECK),
    ("a cluster's udp", UDP),
    ("a cluster's udp.health", UDP_HEALTH),
    ("a cluster's tls", BACKEND_TLS),
    ("hsts", HSTS),
    ("a frontend's headers", HEADER),
    ("a frontend's header_predicates", HEADER_PREDICATE),
    ("a health_check's headers", HEALTH_HEADER),
    ("a cluster's passive_health", PASSIVE_HEALTH),
    ("rate_limits", RATE_LIMIT),
];
