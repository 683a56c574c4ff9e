//! HTTPS listeners, the certificates of frontends, and TLS to backends.

use std::sync::LazyLock;

use super::*;
use crate::order::certificate::testing::{self, Made};

static LEAF: LazyLock<Made> = LazyLock::new(|| testing::leaf(&["a.test"]));

/// `leaf.pem`, `leaf.key`, `chain.pem`, `root.pem` and `crl.pem` are there, and `text.pem` is none.
pub(super) fn read_pem(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("leaf.pem") => Ok(LEAF.pem.clone()),
        Some("leaf.key") => Ok(LEAF.key.clone()),
        Some("chain.pem") => Ok(LEAF.issuers.concat()),
        Some("root.pem") => Ok(testing::authority().pem),
        Some("crl.pem") => Ok(testing::revocation_lists()[1].clone()),
        Some("text.pem") => Ok("text".to_owned()),
        _ => Err(io::Error::other("no such file")),
    }
}

/// An HTTPS listener whose own keys begin on line 4.
fn https(keys: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:80\"\nprotocol = \"https\"\n{keys}\n")
}

const OWN: &str = "certificate = \"leaf.pem\"\nkey = \"leaf.key\"\ncertificate_chain = \"chain.pem\"";

fn orders(text: &str) -> Vec<Order> {
    let config = parse_text(text, &file()).expect("accepted");
    assert_applies(&config);
    assert_eq!(config.warnings, [], "for\n{text}");
    config.orders
}

fn listener_of(keys: &str) -> std::sync::Arc<crate::order::HttpListener> {
    match orders(&https(keys)).swap_remove(0) {
        Order::AddHttpListener(listener) => listener,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listener_has_the_tls_of_its_keys() {
    let listener = listener_of(&format!(
        r#"
        {OWN}
        tls_versions = ["TLS_V13"]
        cipher_list = ["TLS13_AES_128_GCM_SHA256"]
        groups_list = ["P-256"]
        send_tls13_tickets = 0
        alpn_protocols = ["http/1.1"]
        strict_sni_binding = false
        client_auth = "required"
        client_ca_certificates = ["root.pem"]
        client_ca_crls = ["crl.pem"]
        client_subject_header = "X-Subject"
        handshake_timeout = 3
        max_handshakes_per_source = 0
        hsts = {{ enabled = true, max_age = 86400 }}
        front_timeout = 7
        "#
    ));
    let tls = listener.tls().expect("https");
    let counts = (tls.versions().len(), tls.cipher_suites().len(), tls.groups().len());
    assert_eq!(counts, (1, 1, 1));
    assert_eq!((tls.send_tls13_tickets(), tls.strict_sni_binding()), (0, false));
    let auth = tls.client_auth().expect("asked");
    assert_eq!((auth.required(), auth.authorities().len(), auth.crls().len()), (true, 1, 1));
    assert_eq!(tls.client_subject_header().map(|name| &**name), Some("X-Subject"));
    assert_eq!((tls.max_early_data(), tls.handshake_timeout().as_secs()), (0, 3));
    assert_eq!(tls.max_handshakes_per_source(), None);
    assert_eq!(tls.hsts().and_then(|hsts| hsts.header_value()).as_deref(), Some("max-age=86400"));
    assert_eq!(tls.default_certificate().expect("there").chain().len(), 2);
    assert_eq!(listener.front_timeout().as_secs(), 7);
    assert_eq!(listener_of("max_early_data = 512").tls().expect("https").max_early_data(), 512);
    let plain = listener_of("");
    let tls = plain.tls().expect("https");
    assert_eq!((tls.send_tls13_tickets(), plain.request_timeout().as_secs()), (4, 10));
}

#[test]
fn what_is_wrong_with_a_listener_is_told_at_its_key() {
    let check_line = |keys: &str, expected: &str| check(&https(keys), &[expected]);
    check_line("certificate = \"leaf.pem\"", "error 4: listeners[0].certificate: needs `key` beside it");
    check_line(
        "certificate = \"text.pem\"\nkey = \"leaf.key\"",
        "error 4: listeners[0].certificate: has no certificate in PEM",
    );
    check_line(
        "client_auth = \"required\"\nclient_ca_certificates = [\"none.pem\"]",
        "error 5: listeners[0].client_ca_certificates: \"none.pem\" cannot be read: no such file",
    );
    check_line(
        "client_ca_crls = [\"crl.pem\"]",
        "error 4: listeners[0].client_ca_crls: are given without client_auth",
    );
    check_line("hsts = { max_age = 5 }", "error 4: listeners[0].hsts.enabled: is required");
    check_line(
        "tls_versions = [\"TLS_V10\"]",
        "error 4: listeners[0].tls_versions: leave nothing: only TLS 1.2 and 1.3 are spoken",
    );
    check_line(
        "max_early_data = 99999",
        "error 4: listeners[0].max_early_data: 99999 is out of range: 0 to 16384",
    );
    check(
        &https("certificate = \"none.pem\"\nkey = \"leaf.key\""),
        &[
            "warning 4: listeners[0].certificate: \"none.pem\" cannot be read: no such file: there is no certificate of its own",
            "add_https_listener 127.0.0.1:80",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn certificates_come_before_their_frontends_and_once() {
    let another = format!(
        "{OWN}\n[[clusters.app.frontends]]\naddress = \"127.0.0.1:80\"\nhostname = \"b.test\"\n{OWN}"
    );
    check(
        &format!("{}{}", https(""), app(&another, "")),
        &[
            "add_https_listener 127.0.0.1:80",
            "add_cluster app",
            "add_certificate 127.0.0.1:80 a.test",
            "add_https_frontend a.test Prefix(\"\") Tree Forward",
            "add_https_frontend b.test Prefix(\"\") Tree Forward",
            "add_backend app-0-127.0.0.1:81 127.0.0.1:81 100",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn a_frontend_with_a_certificate_calls_for_an_https_listener() {
    check(
        &app(&format!("{OWN}\nhsts = {{ enabled = false }}"), ""),
        &[
            "add_https_listener 127.0.0.1:80",
            "add_cluster app",
            "add_certificate 127.0.0.1:80 a.test",
            "add_https_frontend a.test Prefix(\"\") Tree Forward",
            "add_backend app-0-127.0.0.1:81 127.0.0.1:81 100",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn a_frontend_needs_a_certificate_from_either_side() {
    let without = format!("{}{}", https(""), app("", ""));
    let error = outcome(&without);
    assert_eq!(error.len(), 1, "{error:?}");
    assert!(
        error[0].contains("is https and has no certificate: the frontend needs one of its own"),
        "{error:?}"
    );
    let orders = orders(&format!("{}{}", https(OWN), app("", "")));
    assert!(orders.iter().any(|order| order.verb() == "add_https_frontend"));
    assert!(!orders.iter().any(|order| matches!(order, Order::AddCertificate(_))));
}

#[test]
fn all_that_is_wrong_with_a_frontends_files_is_told() {
    let keys = "certificate = \"none.pem\"\nkey = \"none.key\"\ncertificate_chain = \"none.chain\"";
    check(
        &app(keys, ""),
        &[
            "error 6: clusters.app.frontends[0].certificate: \"none.pem\" cannot be read: no such file",
            "error 7: clusters.app.frontends[0].key: \"none.key\" cannot be read: no such file",
            "error 8: clusters.app.frontends[0].certificate_chain: \"none.chain\" cannot be read: no such file",
        ],
    );
}

#[test]
fn a_cluster_speaks_tls_to_its_backends() {
    let cluster = |keys: &str| {
        let orders = orders(&app_cluster(keys));
        let cluster = orders.into_iter().find_map(|order| match order {
            Order::AddCluster(cluster) => Some(cluster),
            _ => None,
        });
        cluster.expect("a cluster")
    };
    assert!(cluster("tls = {}").tls().is_some());
    assert!(cluster("tls = { enabled = false }").tls().is_none());
    let full = cluster(
        "tls = { server_name = \"b.test\", ca_certificates = [\"root.pem\"], skip_verification = true, \
         client_certificate = \"leaf.pem\", client_key = \"leaf.key\", alpn = [\"http/1.1\"] }",
    );
    let tls = full.tls().expect("on");
    assert_eq!((tls.server_name(), tls.skip_verification()), (Some("b.test"), true));
    assert_eq!((tls.authorities().len(), tls.client().is_some()), (1, true));
    check(
        &app_cluster("tls = { ca_certificates = [\"text.pem\"] }"),
        &["error 3: clusters.app.tls.ca_certificates: has no certificate in PEM"],
    );
}

#[test]
fn settings_alone_need_no_files() {
    let text = [
        https("certificate = \"none.pem\"\nkey = \"none.key\"\nclient_auth = \"required\""),
        app("certificate = \"none.pem\"\nkey = \"none.key\"", ""),
    ];
    parse_alone(&text.concat(), &file()).expect("accepted");
}
