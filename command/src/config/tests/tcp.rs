//! TCP listeners and the clusters that they lead to.

use super::*;

/// A TCP listener whose own keys begin on line 4.
fn listener(keys: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:80\"\nprotocol = \"tcp\"\n{keys}\n")
}

/// A cluster `app` whose own keys are on line 3, and whose frontends at 127.0.0.1:80 have these keys each,
/// from line 4 on.
fn cluster(keys: &str, frontends: &[&str]) -> String {
    let frontends: String =
        frontends.iter().map(|keys| format!("  {{ address = \"127.0.0.1:80\", {keys} }},\n")).collect();
    format!(
        "[clusters.app]\nprotocol = \"tcp\"\n{keys}\nfrontends = [\n{frontends}]\n\
         backends = [{{ address = \"127.0.0.1:81\" }}]\n"
    )
}

fn tcp_listener_of(text: &str) -> std::sync::Arc<crate::order::TcpListener> {
    let config = parse_text(text, &file()).expect("accepted");
    assert_applies(&config);
    assert_eq!(config.warnings, [], "for\n{text}");
    match config.orders.into_iter().next() {
        Some(Order::AddTcpListener(listener)) => listener,
        other => panic!("{other:?}"),
    }
}

const OWN: &str = "certificate = \"leaf.pem\"\nkey = \"leaf.key\"\ncertificate_chain = \"chain.pem\"";

#[test]
fn a_listener_a_cluster_and_its_frontends_are_orders() {
    let text = format!(
        "{}{}",
        listener(""),
        cluster("", &["hostname = \"*.A.test\", alpn = [\"h2\"]", "hostname = \"b.test\""])
    );
    check(
        &text,
        &[
            "add_tcp_listener 127.0.0.1:80",
            "add_cluster app",
            "add_tcp_frontend 127.0.0.1:80 sni *.a.test alpn h2",
            "add_tcp_frontend 127.0.0.1:80 sni b.test",
            "add_backend app-0-127.0.0.1:81 127.0.0.1:81 100",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn a_frontend_without_a_listener_calls_for_one() {
    check(
        &cluster("", &["tags = { owner = \"us\" }"]),
        &[
            "add_tcp_listener 127.0.0.1:80",
            "add_cluster app",
            "add_tcp_frontend 127.0.0.1:80",
            "add_backend app-0-127.0.0.1:81 127.0.0.1:81 100",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn a_listener_has_what_its_keys_say() {
    let keys = "public_address = \"192.0.2.1:80\"\nback_timeout = 9\nsni_preread_timeout = 3\n\
                sni_preread_max_bytes = 5\ninterface = \"eth0\"";
    let it = tcp_listener_of(&format!("front_timeout = 7\n{}", listener(keys)));
    assert_eq!(it.key().to_string(), "127.0.0.1:80%eth0");
    assert_eq!((it.front_timeout().as_secs(), it.back_timeout().as_secs()), (7, 9));
    assert_eq!((it.sni_preread_timeout().as_secs(), it.sni_preread_bytes_max()), (3, 5));
    assert!(it.public_address().is_some() && it.tls().is_none());
}

#[test]
fn tls_ends_at_a_listener_that_says_so() {
    let keys = format!(
        "tls = true\n{OWN}\ntls_versions = [\"TLS_V13\"]\nalpn_protocols = [\"mqtt\", \"h2\"]\nsend_tls13_tickets = 0\n\
         client_auth = \"required\"\nclient_ca_certificates = [\"root.pem\"]\nhandshake_timeout = 3\n\
         max_handshakes_per_source = 9"
    );
    let it = tcp_listener_of(&listener(&keys));
    let tls = it.tls().expect("TLS ends here");
    assert_eq!((tls.versions().len(), tls.send_tls13_tickets()), (1, 0));
    assert_eq!(tls.alpn_names(), ["mqtt", "h2"]);
    assert!(tls.default_certificate().is_some() && tls.client_auth().is_some_and(|auth| auth.required()));
    assert_eq!((tls.handshake_timeout().as_secs(), tls.max_handshakes_per_source()), (3, Some(9)));
    let bare = tcp_listener_of(&listener("tls = true"));
    assert!(bare.tls().is_some_and(|tls| tls.alpn_names().is_empty()));
}

#[test]
fn limits_have_to_fit() {
    let refused =
        |keys: &str, expected: &str| check(&listener(keys), &[&format!("error 4: listeners[0].{expected}")]);
    refused("sni_preread_timeout = 61", "sni_preread_timeout: 61 is longer than front_timeout (60)");
    refused("sni_preread_timeout = 0", "sni_preread_timeout: 0 is out of range: 1 to 4294967295");
    refused(
        "sni_preread_max_bytes = 16394",
        "sni_preread_max_bytes: 16394 does not fit in a buffer: buffer_size is 16393",
    );
    refused("sni_preread_max_bytes = 4", "sni_preread_max_bytes: 4 is out of range: 5 to 4294967295");
    refused(
        "expect_proxy_from = [\"here\"]",
        "expect_proxy_from: `here` is neither an IP address nor a network such as 10.0.0.0/8",
    );
}

#[test]
fn what_is_about_http_or_tls_is_told() {
    let told = |keys: &str, expected: &str| {
        let outcome = outcome(&listener(keys));
        let remarks: Vec<_> = outcome.iter().filter(|line| !line.starts_with('a')).collect();
        assert_eq!(remarks, [expected], "for {keys}");
    };
    let only = |name: &str, which: &str| format!("warning 4: listeners[0].{name}: it has no effect: {which}");
    told("request_timeout = 3", &only("request_timeout", "only http and https listeners use it"));
    told("trusted_proxies = [\"::1\"]", &only("trusted_proxies", "only http and https listeners use it"));
    told("max_early_data = 5", &only("max_early_data", "only https listeners use it"));
    told(
        "tls_versions = [\"TLS_V13\"]",
        &only("tls_versions", "a tcp listener uses it only with tls = true"),
    );
    told("max_flows = 5", &only("max_flows", "only udp listeners use it"));
    told(
        "client_auth = \"required\"",
        "error 4: listeners[0].client_auth: a tcp listener can have it only with tls = true",
    );
    told("hsts = { enabled = true }", "error 4: listeners[0].hsts: only https listeners can have it");
    let flag = "[[listeners]]\naddress = \"127.0.0.1:80\"\nprotocol = \"http\"\ntls = true\n";
    check(
        flag,
        &[
            "warning 4: listeners[0].tls: it has no effect: only tcp listeners use it",
            "add_http_listener 127.0.0.1:80",
            "activate_listener 127.0.0.1:80",
        ],
    );
}

#[test]
fn frontends_of_one_address_do_not_overlap() {
    let refused = |frontends: &[&str], line: u16, expected: &str| {
        let nth = frontends.len() - 1;
        check(
            &cluster("", frontends),
            &[&format!(
                "error {line}: clusters.app.frontends[{nth}]: {expected}: clusters.app.frontends[0] (line 5)"
            )],
        );
    };
    let (named, h2) = ("hostname = \"a.test\"", "hostname = \"A.test\", alpn = [\"h2\", \"x\"]");
    let same = "address, hostname and alpn are already those of another one";
    refused(&[named, named], 6, same);
    refused(&["", ""], 6, same);
    refused(&[h2, named, "hostname = \"a.test\", alpn = [\"x\"]"], 7, "both are for the same alpn");
    let either = "an address has either one frontend for all connections or frontends with an sni";
    refused(&["", named], 6, either);
    refused(&[named, ""], 6, either);
}

#[test]
fn names_and_protocols_are_checked_at_their_keys() {
    let refused = |keys: &str, expected: &str| {
        check(&cluster("", &[keys]), &[&format!("error 5: clusters.app.frontends[0].{expected}")]);
    };
    refused(
        "hostname = \"/a/.test\"",
        "hostname: `/a/.test` has an expression: a name or `*.suffix` is what it can be",
    );
    refused("hostname = \"*\"", "hostname: `*` is for every name: leave it out, or name a suffix");
    refused("alpn = [\"h2\"]", "alpn: is given without an sni, whose protocols it tells apart");
    refused("path = \"/a\"", "path: only the frontends of http clusters can have it");
    refused("required_auth = true", "required_auth: only the frontends of http clusters can have it");
    refused(
        "header_predicates = [{ name = \"a\", match = \"present\" }]",
        "header_predicates: only the frontends of http clusters can have it",
    );
    refused(
        "certificate = \"leaf.pem\"",
        "certificate: is of no use: the listener passes TLS on as it is (see its key tls)",
    );
}

#[test]
fn clusters_and_listeners_speak_the_same() {
    let http = listener("").replace("\"tcp\"", "\"http\"");
    check(
        &format!("{http}{}", cluster("", &[""])),
        &[
            "error 9: clusters.app.frontends[0].address: the listener at 127.0.0.1:80, listeners[0] (line 2), is http: the frontends of tcp clusters need one that speaks tcp",
        ],
    );
    check(
        &format!("{}{}", listener(""), app("", "")),
        &[
            "error 8: clusters.app.frontends[0].address: the listener at 127.0.0.1:80, listeners[0] (line 2), is tcp: the frontends of http clusters need one that speaks http or https",
        ],
    );
}

#[test]
fn a_cluster_has_nothing_that_needs_http() {
    let told = |keys: &str, expected: &str| {
        let outcome = outcome(&cluster(keys, &[""]));
        let remarks: Vec<_> = outcome.iter().filter(|line| !line.starts_with("a")).collect();
        assert_eq!(remarks, [expected], "for {keys}");
    };
    told(
        "https_redirect = true",
        "warning 3: clusters.app.https_redirect: it has no effect: only http clusters use it",
    );
    told(
        "sticky_session = true",
        "warning 3: clusters.app.sticky_session: it has no effect: only http clusters use it",
    );
    let affinity = outcome(&cluster("affinity_header = \"X-Key\"", &[""]));
    let expected = "error 3: clusters.app.affinity_header: `X-Key` needs HTTP: a cluster with TCP frontends cannot have it";
    assert!(affinity.iter().any(|line| line == expected), "{affinity:?}");
}

#[test]
fn where_tls_ends_there_is_a_certificate() {
    let brings = "certificate = \"leaf.pem\", key = \"leaf.key\", certificate_chain = \"chain.pem\"";
    let text = format!("{}{}", listener("tls = true"), cluster("", &[brings]));
    check(
        &text,
        &[
            "add_tcp_listener 127.0.0.1:80",
            "add_cluster app",
            "add_certificate 127.0.0.1:80 a.test",
            "add_tcp_frontend 127.0.0.1:80",
            "add_backend app-0-127.0.0.1:81 127.0.0.1:81 100",
            "activate_listener 127.0.0.1:80",
        ],
    );
    let text = format!("{}{}", listener("tls = true"), cluster("", &[""]));
    check(
        &text,
        &[
            "error 9: clusters.app.frontends[0].address: TLS ends at the listener at 127.0.0.1:80, listeners[0] (line 2), which has no certificate: the frontend needs one of its own",
        ],
    );
    assert!(
        parse_text(&format!("{}{}", listener(&format!("tls = true\n{OWN}")), cluster("", &[""])), &file())
            .is_ok()
    );
}
