//! Basic authentication (RFC 7617) against the hashes of a cluster.

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::content::Hasher;
use kakehi_e2e::http::{Backend, Client};
use kakehi_e2e::rules::{Rule, Rules};
use kakehi_e2e::{Proxy, requests};

/// `sha256("secret")`, `sha256("päss:wörd")`.
const ALICE: &str = "alice:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const BOB_PASSWORD: &str = "p\u{e4}ss:w\u{f6}rd";

const FRONTENDS: &[Rule] = &[
    Rule {
        keys: r#"hostname = "a.test", path = "/", required_auth = true"#,
        flags: &["--hostname", "a.test", "--path-prefix", "/", "--required-auth"],
    },
    Rule {
        keys: r#"hostname = "a.test", path = "/public""#,
        flags: &["--hostname", "a.test", "--path-prefix", "/public"],
    },
];

fn entry(user: &str, password: &str) -> String {
    let mut hasher = Hasher::default();
    hasher.update(password.as_bytes());
    format!("{user}:{}", hasher.finish())
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain(&[0; 2]).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64(format!("{user}:{password}").as_bytes()))
}

/// Status of a request with these fields; the connection has to stay usable.
fn ask(client: &mut Client, fields: &str) -> u16 {
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    let response = client.response("GET");
    assert!(!response.head.closes());
    if response.status() == 401 {
        assert_eq!(response.field("WWW-Authenticate"), Some("Basic realm=\"home\""));
    }
    response.status()
}

#[test]
fn only_those_who_know_the_password_come_in() {
    let backend = Backend::named("hello");
    let bob = entry("bob", BOB_PASSWORD);
    let rules = Rules {
        cluster_keys: &format!(
            "authorized_hashes = [\"{ALICE}\", \"{bob}\"]\nwww_authenticate = 'Basic realm=\"home\"'\n"
        ),
        cluster_flags: &[
            "--authorized-hash",
            ALICE,
            "--authorized-hash",
            &bob,
            "--www-authenticate",
            "Basic realm=\"home\"",
        ],
        frontends: FRONTENDS,
        ..Rules::default()
    };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        assert_eq!(ask(&mut client, ""), 401, "no header");
        assert_eq!(ask(&mut client, &basic("alice", "secret")), 200);
        assert_eq!(ask(&mut client, &basic("bob", BOB_PASSWORD)), 200);
        let lower = basic("alice", "secret").replace("Basic", "bASIC");
        assert_eq!(ask(&mut client, &lower), 200, "RFC 9110 §11.1: schemes have no case");
        for (user, password) in [
            ("alice", "Secret"),
            ("alice", ""),
            ("alice", BOB_PASSWORD),
            ("Alice", "secret"),
            ("", "secret"),
            ("mallory", "secret"),
            ("alice", &ALICE[6..]),
            ("alice\0", "secret"),
        ] {
            assert_eq!(ask(&mut client, &basic(user, password)), 401, "{user:?} {password:?}");
        }
        for fields in [
            "Authorization: Basic\r\n",
            "Authorization: Basic %%%\r\n",
            "Authorization: Bearer YWxpY2U6c2VjcmV0\r\n",
            "Authorization: Basic YWxpY2U\r\n",
            "Authorization: YWxpY2U6c2VjcmV0\r\n",
            "Authorization: Basic YWxpY2U6c2VjcmV0 x\r\n",
            "X-Authorization: Basic YWxpY2U6c2VjcmV0\r\n",
        ] {
            assert_eq!(ask(&mut client, fields), 401, "{fields}");
        }
        // The backend might take another one than we do.
        let two = format!("{}{}", basic("alice", "secret"), basic("mallory", "x"));
        assert_eq!(ask(&mut client, &two), 401, "more than one");
        assert_eq!(client.get("a.test", "/public").status(), 200, "asked for only where it is required");
        let seen = std::iter::from_fn(|| backend.has_request().then_some(())).count();
        assert_eq!(seen, 4, "nobody else reached the backend");
    });
}

#[test]
fn nobody_comes_in_where_nobody_is_known() {
    let backend = Backend::named("hello");
    let rules = Rules { frontends: FRONTENDS, ..Rules::default() };
    rules.check(backend.address(), |proxy| {
        let mut client = Client::connect(proxy.address());
        for fields in ["", &basic("", ""), &basic("alice", "secret")] {
            client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
            let response = client.response("GET");
            assert_eq!(response.status(), 401);
            // RFC 9110 §15.5.2: a 401 has a challenge, or no client would ask its user.
            assert!(response.field("WWW-Authenticate").is_some_and(|value| value.starts_with("Basic ")));
        }
    });
}

#[test]
fn hashes_that_are_changed_hold_from_the_next_request_on() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster_with("c", "", &[FRONTENDS[0].keys], &[backend.address()]).start();
    let mut command = proxy.command();
    let mut client = Client::connect(proxy.address());
    for round in 0..10 {
        let password = format!("password {round}");
        command.ok(RequestType::AddCluster(proto::Cluster {
            cluster_id: "c".into(),
            authorized_hashes: vec![entry("user", &password)],
            www_authenticate: Some("Basic realm=\"home\"".into()),
            ..Default::default()
        }));
        assert_eq!(ask(&mut client, &basic("user", &password)), 200, "round {round}");
        let old = format!("password {}", round - 1);
        assert_eq!(ask(&mut client, &basic("user", &old)), 401, "round {round}");
    }
}

#[test]
fn hashes_that_are_none_are_refused_by_name() {
    let proxy = Proxy::builder().workers(1).start();
    for hash in ["alice", "alice:xyz", ":00", "alice:plain text"] {
        let reason = proxy.command().refused(RequestType::AddCluster(proto::Cluster {
            cluster_id: "c".into(),
            authorized_hashes: vec![ALICE.to_owned(), hash.to_owned()],
            ..Default::default()
        }));
        assert!(reason.contains("authorized_hashes"), "{reason}");
    }
    proxy.command().ok(requests::add_cluster("c"));
}

#[test]
fn credentials_have_a_bound() {
    let backend = Backend::named("hello");
    let long = "x".repeat(300);
    let hash = entry("u", &long);
    let start = |setting: &str| {
        Proxy::builder()
            .workers(1)
            .setting(setting)
            .cluster_with(
                "c",
                &format!("authorized_hashes = [\"{hash}\"]\nwww_authenticate = 'Basic realm=\"home\"'"),
                &[FRONTENDS[0].keys],
                &[backend.address()],
            )
            .start()
    };
    let bounded = start("basic_auth_max_credential_bytes = 301");
    assert_eq!(ask(&mut Client::connect(bounded.address()), &basic("u", &long)), 401);
    let roomy = start("basic_auth_max_credential_bytes = 302");
    assert_eq!(ask(&mut Client::connect(roomy.address()), &basic("u", &long)), 200);
}
