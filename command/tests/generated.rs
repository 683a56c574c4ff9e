//! The generated messages are those of the `.proto` files.
//!
//! `KAKEHI_REGENERATE=1 cargo test -p kakehi-command --test generated` writes them anew.

use std::path::Path;

use prost_build::Config;

const OUT: &str = "src/proto";

fn generate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile(["command.proto", "supervision.proto", "hand_over.proto"], [&root])
        .expect("the protos compile");
    let mut config = Config::new();
    config
        .out_dir(out)
        .btree_map(["."])
        .type_attribute(".command", "#[derive(serde::Serialize, serde::Deserialize)]")
        // The state file and the CLI's JSON name variants so.
        .type_attribute(".command.Request.request_type", "#[serde(rename_all = \"SCREAMING_SNAKE_CASE\")]")
        .type_attribute(
            ".command.ResponseContent.content_type",
            "#[serde(rename_all = \"SCREAMING_SNAKE_CASE\")]",
        );
    // Members that state files written before 1.1.1's successors do not have: missing means empty.
    for field in [
        "Cluster.answers",
        "Cluster.authorized_hashes",
        "RequestHttpFrontend.headers",
        "RequestHttpFrontend.header_predicates",
        "HttpListenerConfig.answers",
        "HttpsListenerConfig.answers",
        "HttpsListenerConfig.alpn_protocols",
        "HttpsListenerConfig.client_ca_certificates",
        "HttpsListenerConfig.client_ca_crls",
        "RequestTcpFrontend.alpn",
        "RequestUdpFrontend.tags",
        "HealthCheckConfig.accepted_statuses",
        "HealthCheckConfig.headers",
    ] {
        config.field_attribute(format!(".command.{field}"), "#[serde(default)]");
    }
    // Ours: left out where unset, so that a state file without them is Sōzu's to the byte.
    for message in ["HttpListenerConfig", "HttpsListenerConfig"] {
        let field = |name| format!(".command.{message}.{name}");
        config.field_attribute(
            field("trusted_proxies"),
            "#[serde(default, skip_serializing_if = \"Vec::is_empty\")]",
        );
        config.field_attribute(
            field("expect_proxy_from"),
            "#[serde(default, skip_serializing_if = \"Vec::is_empty\")]",
        );
        for name in
            ["tunnel_timeout", "max_request_line", "max_body_bytes", "min_transfer_rate", "trace_context"]
        {
            config.field_attribute(field(name), "#[serde(skip_serializing_if = \"Option::is_none\")]");
        }
    }
    for message in ["HttpListenerConfig", "HttpsListenerConfig", "TcpListenerConfig"] {
        for name in
            ["rate_limits", "max_connections", "max_connections_per_source", "max_accept_rate", "over_limit"]
        {
            config.field_attribute(
                format!(".command.{message}.{name}"),
                "#[serde(skip_serializing_if = \"Option::is_none\")]",
            );
        }
    }
    config.field_attribute(".command.RateLimits.values", "#[serde(default)]");
    config.field_attribute(
        ".command.Cluster.rate_limits",
        "#[serde(default, skip_serializing_if = \"Vec::is_empty\")]",
    );
    config.field_attribute(
        ".command.TcpListenerConfig.expect_proxy_from",
        "#[serde(default, skip_serializing_if = \"Vec::is_empty\")]",
    );
    for name in [
        "HttpsListenerConfig.client_subject_header",
        "HttpsListenerConfig.max_early_data",
        "HttpsListenerConfig.handshake_timeout",
        "HttpsListenerConfig.max_handshakes_per_source",
        "CertificateAndKey.ocsp_response",
        "Cluster.tls",
        "Cluster.max_connections",
        "Cluster.max_connections_per_backend",
        "Cluster.max_queue",
        "Cluster.queue_timeout_ms",
        "AddBackend.max_connections",
        "Cluster.panic_threshold",
        "Cluster.passive_health",
        "Cluster.retry_budget_percent",
        "HealthCheckConfig.host",
        "HealthCheckConfig.jitter_percent",
        "Cluster.slow_start",
        "Cluster.sticky_secure",
        "Cluster.sticky_http_only",
        "Cluster.sticky_same_site",
        "AddBackend.draining",
        "TcpListenerConfig.tls",
        "Cluster.send_proxy_version",
    ] {
        config.field_attribute(
            format!(".command.{name}"),
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        );
    }
    config.field_attribute(
        ".command.HealthChecksList.backends",
        "#[serde(default, skip_serializing_if = \"Vec::is_empty\")]",
    );
    // Those that hold keys show themselves without: see `proto/secret.rs`.
    config.skip_debug([
        ".command.CertificateAndKey",
        ".command.HttpsListenerConfig",
        ".command.BackendTls",
        ".command.HealthCheckHeaderValue",
        ".supervision.TicketKey",
        ".supervision.ProbeSecret",
        ".hand_over.Client",
        ".hand_over.Worker",
        ".hand_over.Limits",
    ]);
    config.compile_fds(files).expect("the messages are generated");
}

#[test]
fn checked_in_messages_match_the_proto_files() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(OUT);
    if std::env::var_os("KAKEHI_REGENERATE").is_some() {
        generate(&checked_in);
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    generate(scratch.path());
    for file in ["command.rs", "supervision.rs", "hand_over.rs"] {
        let fresh = std::fs::read_to_string(scratch.path().join(file)).expect("generated");
        let ours = std::fs::read_to_string(checked_in.join(file)).unwrap_or_default();
        assert!(
            fresh == ours,
            "{file} is stale: run KAKEHI_REGENERATE=1 cargo test -p kakehi-command --test generated"
        );
    }
}
