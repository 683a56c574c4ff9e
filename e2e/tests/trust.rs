//! Whose word on where a request came from is passed on: that of configured peers, and nobody else's.
//!
//! Peers are told apart by their address: clients bind to one of 127.0.0.0/8.

use std::net::Ipv4Addr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{TrustedProxies, UpdateHttpListenerConfig};
use kakehi_e2e::http::{Backend, Client, RequestHead};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

const ONE: &[Rule] = &[Rule { keys: r#"hostname = "a.test""#, flags: &["--hostname", "a.test"] }];
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 7, 7, 7);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 8, 8, 8);

/// What a chain of proxies before us said.
const CLAIM: &str = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\
                     X-Forwarded-Port: 8443\r\nX-Forwarded-Host: public.test\r\nX-Real-IP: 192.0.2.1\r\n\
                     Forwarded: for=192.0.2.1;proto=https\r\nX-Forwarded-Prefix: /public\r\n";

const FAMILIES: [&str; 6] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Forwarded",
];

/// What the backend sees of a request of `source` with these fields.
fn seen(proxy: &Proxy, backend: &Backend, source: Ipv4Addr, fields: &str) -> (RequestHead, Client) {
    let mut client = Client::connect_from(source, proxy.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    assert_eq!(client.response("GET").status(), 200);
    (backend.next_request(), client)
}

/// The values of all families, in the order of [`FAMILIES`].
fn told(head: &RequestHead) -> [String; 6] {
    FAMILIES.map(|name| head.fields.all(name).join(" | "))
}

#[test]
fn strangers_are_not_believed_and_trusted_peers_are() {
    let backend = Backend::named("hello");
    for (family, x_forwarded, rfc7239) in
        [("both", true, true), ("x_forwarded", true, false), ("rfc7239", false, true), ("none", false, false)]
    {
        let listener_keys =
            format!("forwarded_headers = \"{family}\"\ntrusted_proxies = [\"127.7.0.0/16\"]\n");
        let rules = Rules {
            listener_keys: &listener_keys,
            listener_flags: &["--forwarded-headers", family, "--trusted-proxy", "127.7.0.0/16"],
            frontends: ONE,
            ..Rules::default()
        };
        rules.check(backend.address(), |proxy| {
            let port = proxy.address().port().to_string();
            let ours = |client: &Client| {
                format!("proto=http;for=\"{}\";by={}", client.local_address(), proxy.address().ip())
            };
            let pick = |written: bool, text: String| if written { text } else { String::new() };

            let (head, client) = seen(proxy, &backend, STRANGER, CLAIM);
            assert_eq!(
                told(&head),
                [
                    pick(x_forwarded, STRANGER.to_string()),
                    pick(x_forwarded, "http".into()),
                    pick(x_forwarded, port),
                    String::new(),
                    String::new(),
                    pick(rfc7239, ours(&client)),
                ],
                "{family}: a stranger"
            );

            assert_eq!(head.fields.get("X-Forwarded-Prefix"), None, "{family}: a stranger");

            let (head, client) = seen(proxy, &backend, TRUSTED, CLAIM);
            let prefix = pick(family != "rfc7239", "/public".into());
            assert_eq!(head.fields.all("X-Forwarded-Prefix").concat(), prefix, "{family}: trusted");
            // Where we write nothing a trusted word is passed on as it is; where we write one family, it is the
            // one that counts.
            let chain = "192.0.2.1, 192.0.2.2";
            let forwarded = "for=192.0.2.1;proto=https";
            let expected = match (x_forwarded, rfc7239) {
                (true, true) => [
                    format!("{chain}, {TRUSTED}"),
                    "https".into(),
                    "8443".into(),
                    "public.test".into(),
                    "192.0.2.1".into(),
                    format!("{forwarded}, {}", ours(&client)),
                ],
                (true, false) => [
                    format!("{chain}, {TRUSTED}"),
                    "https".into(),
                    "8443".into(),
                    "public.test".into(),
                    "192.0.2.1".into(),
                    String::new(),
                ],
                (false, true) => [
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                    "192.0.2.1".into(),
                    format!("{forwarded}, {}", ours(&client)),
                ],
                (false, false) => [
                    chain.into(),
                    "https".into(),
                    "8443".into(),
                    "public.test".into(),
                    "192.0.2.1".into(),
                    forwarded.into(),
                ],
            };
            assert_eq!(told(&head), expected, "{family}: a trusted peer");
        });
    }
}

#[test]
fn malformed_claims_of_trusted_peers_do_not_swallow_ours() {
    let backend = Backend::named("hello");
    let rules =
        Rules { listener_keys: "trusted_proxies = [\"127.7.7.7\"]\n", frontends: ONE, ..Rules::default() };
    let proxy = rules.by_file(backend.address());
    for line in ["for=\"unbalanced", "for=a b", "nonsense", "=;=", "for=\"x\\"] {
        let (head, client) = seen(&proxy, &backend, TRUSTED, &format!("Forwarded: {line}\r\n"));
        let ours = format!("proto=http;for=\"{}\";by={}", client.local_address(), proxy.address().ip());
        assert_eq!(head.fields.all("Forwarded"), [ours], "{line}");
    }
    let claims = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For:\r\nX-Forwarded-For: 192.0.2.2\r\n";
    let (head, _) = seen(&proxy, &backend, TRUSTED, claims);
    let whole = head.fields.all("X-Forwarded-For").join(", ");
    assert_eq!(whole, format!("192.0.2.1, 192.0.2.2, {TRUSTED}"));
}

#[test]
fn real_ip_is_the_peers_unless_a_trusted_one_knows_better() {
    let backend = Backend::named("hello");
    let rules = Rules {
        listener_keys: "trusted_proxies = [\"127.7.7.7\"]\nsend_x_real_ip = true\n",
        frontends: ONE,
        ..Rules::default()
    };
    let proxy = rules.by_file(backend.address());
    let real_ip = |source, fields| {
        let (head, _) = seen(&proxy, &backend, source, fields);
        head.fields.get("X-Real-IP").map(str::to_owned)
    };
    let claim = "X-Real-IP: 192.0.2.1\r\n";
    assert_eq!(real_ip(STRANGER, claim), Some(STRANGER.to_string()));
    assert_eq!(real_ip(STRANGER, ""), Some(STRANGER.to_string()));
    assert_eq!(real_ip(TRUSTED, claim), Some("192.0.2.1".to_owned()));
    assert_eq!(real_ip(TRUSTED, ""), Some(TRUSTED.to_string()));
}

#[test]
fn trust_that_is_changed_holds_from_the_next_request_on() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let mut command = proxy.command();
    let update = |values: &[&str]| {
        RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
            address: requests::wire_address(proxy.address()),
            trusted_proxies: Some(TrustedProxies {
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }),
            ..Default::default()
        })
    };
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let mut chain = || {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
        assert_eq!(client.response("GET").status(), 200);
        backend.next_request().fields.get("X-Forwarded-For").expect("it is always told").to_owned()
    };
    let (alone, believed) = (TRUSTED.to_string(), format!("192.0.2.1, {TRUSTED}"));
    assert_eq!(chain(), alone, "nobody is trusted unless said");
    for values in [["127.7.7.7"], ["127.7.7.7/32"], ["127.0.0.0/8"], ["0.0.0.0/0"]] {
        command.ok(update(&values));
        assert_eq!(chain(), believed, "{values:?}");
        command.ok(update(&["127.7.7.8", "127.7.8.0/24", "::1", "2001:db8::/32"]));
        assert_eq!(chain(), alone);
    }
    command.ok(update(&["127.7.7.7"]));
    assert_eq!(chain(), believed);
    // An update that says nothing of it changes nothing of it.
    command.ok(RequestType::UpdateHttpListener(UpdateHttpListenerConfig {
        address: requests::wire_address(proxy.address()),
        front_timeout: Some(30),
        ..Default::default()
    }));
    assert_eq!(chain(), believed);
    let listener = proxy.address().to_string();
    proxy.cli().ok(&["listener", "http", "update", "--address", &listener, "--no-trusted-proxies"]);
    assert_eq!(chain(), alone, "emptied");
    for value in ["127.0.0.1/33", "localhost", "", "10.0.0.0/", "127.0.0.1:80"] {
        let reason = command.refused(update(&[value]));
        assert!(reason.contains("trusted_proxies"), "{value}: {reason}");
    }
}

#[test]
fn request_ids_are_passed_or_made() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let (head, _) = seen(&proxy, &backend, STRANGER, "X-Request-Id: mine-1\r\n");
    assert_eq!(head.fields.all("X-Request-Id"), ["mine-1"]);
    let mut made: Vec<String> = (0..20)
        .map(|_| {
            let (head, _) = seen(&proxy, &backend, STRANGER, "");
            assert_eq!(head.fields.get("X-Request-Id"), head.fields.get("Sozu-Id"));
            head.fields.get("X-Request-Id").expect("made").to_owned()
        })
        .collect();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 20, "each its own: {made:?}");
}

#[test]
fn traces_are_passed_or_begun() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let backend = Backend::named("hello");
    let given = format!("traceparent: {PARENT}\r\ntracestate: vendor=1,other=2\r\n");
    let pass = Rules { frontends: ONE, ..Rules::default() };
    pass.check(backend.address(), |proxy| {
        let (head, _) = seen(proxy, &backend, STRANGER, &given);
        assert_eq!(head.fields.get("traceparent"), Some(PARENT));
        assert_eq!(head.fields.get("tracestate"), Some("vendor=1,other=2"));
        let (head, _) = seen(proxy, &backend, STRANGER, "");
        assert_eq!(head.fields.get("traceparent"), None);
    });
    let make = Rules {
        listener_keys: "trace_context = \"make\"\n",
        listener_flags: &["--trace-context", "make"],
        frontends: ONE,
        ..Rules::default()
    };
    make.check(backend.address(), |proxy| {
        let (head, _) = seen(proxy, &backend, STRANGER, &given);
        assert_eq!(head.fields.get("traceparent"), Some(PARENT), "a client's trace is continued");
        assert_eq!(head.fields.get("tracestate"), Some("vendor=1,other=2"));
        let malformed = PARENT.replace("0af7", "0AF7");
        let mut seen_before = Vec::new();
        for fields in [
            String::new(),
            format!("traceparent: {malformed}\r\ntracestate: vendor=1\r\n"),
            format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n"),
            "traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n".to_owned(),
        ] {
            let (head, _) = seen(proxy, &backend, STRANGER, &fields);
            let made = head.fields.get("traceparent").expect("one is begun").to_owned();
            let parts: Vec<&str> = made.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{made}");
            assert!(made.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{made}");
            assert_ne!(made, PARENT);
            assert_eq!(head.fields.get("tracestate"), None, "the state of a trace that is not continued");
            assert!(!seen_before.contains(&made), "{made} again");
            seen_before.push(made);
        }
    });
}
