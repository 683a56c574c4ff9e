//! The repository's `config.toml`: it runs as it is, and documents every key.

use super::*;

#[test]
fn the_embedded_configuration_runs_as_it_is() {
    let config = parse_text(EMBEDDED, &embedded()).expect("accepted");
    assert_eq!(config.warnings, []);
    assert_eq!(config.worker_count, 6);
    assert_eq!(config.command_socket, Path::new("/run/user/7/kakehi.sock"));
    let described: Vec<_> = config.orders.iter().map(describe).collect();
    assert_eq!(
        described,
        [
            "add_http_listener 127.0.0.1:8080",
            "add_cluster hello",
            "add_http_frontend * Prefix(\"\") Tree Forward",
            "add_backend demo 127.0.0.1:0 100",
            "activate_listener 127.0.0.1:8080",
        ]
    );
    assert_applies(&config);
}

#[test]
fn the_embedded_configuration_as_a_file_leaves_out_the_demo_backend() {
    let outcome = outcome(EMBEDDED);
    assert!(
        outcome[0].starts_with("warning ") && outcome[0].contains("port 0 stands for the demo backend"),
        "{outcome:?}"
    );
    assert_eq!(outcome.len(), 1 + 4, "{outcome:?}");
}

/// `# key = value` and `# [table]` become the key and the table.
fn uncommented(text: &str) -> String {
    let is_example = |line: &str| {
        let word = line.split([' ', '=']).next().unwrap_or_default();
        line.starts_with('[')
            || (line[word.len()..].starts_with(" = ")
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_example(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_embedded_configuration_documents_every_key_with_its_default() {
    let text = uncommented(EMBEDDED);
    let (document, errors) = DeTable::parse_recoverable(&text);
    assert!(errors.is_empty(), "{errors:?}");
    let top = file::Section::top(&document, keys::TOP);
    let mut diagnostics = Diagnostics::new("config.toml", &text);
    file::check(&top, &mut diagnostics);
    assert_eq!(diagnostics.finish().expect("every example is valid"), []);

    let cluster = &top.named_tables("clusters")[0].1;
    let health_check = cluster.table("health_check").expect("documented");
    let udp = cluster.table("udp").expect("documented");
    let frontend = &cluster.tables("frontends")[0];
    let listener = &top.tables("listeners")[0];
    let sections = [
        top.clone(),
        top.table("metrics").expect("documented"),
        listener.clone(),
        listener.table("hsts").expect("documented"),
        cluster.clone(),
        frontend.clone(),
        frontend.tables("headers")[0].clone(),
        frontend.tables("header_predicates")[0].clone(),
        cluster.tables("backends")[0].clone(),
        health_check.clone(),
        health_check.tables("headers")[0].clone(),
        udp.clone(),
        udp.table("health").expect("documented"),
        cluster.table("tls").expect("documented"),
        cluster.table("passive_health").expect("documented"),
        listener.tables("rate_limits")[0].clone(),
    ];
    assert_eq!(sections.len(), keys::SECTIONS.len());
    for section in sections {
        for key in section.keys() {
            let path = section.key_path(key.name);
            let Some(present) = section.present().find(|present| present.key.name == key.name) else {
                panic!("{path} is not documented");
            };
            assert!(
                key.default.is_empty()
                    || present.is_default()
                    || key.name == "headers"
                    || key.name == "rate_limits"
                    || key.name == "header_predicates",
                "{path} is documented with another value than its default, {}",
                key.default
            );
        }
    }
}

#[test]
fn errors_of_the_embedded_configuration_say_so() {
    let errors = parse_text("worker_count = 0", &embedded()).expect_err("refused");
    assert_eq!(errors.to_string(), "built-in config.toml:1: worker_count: 0 is out of range: 1 to 1024");
}
