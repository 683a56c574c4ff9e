//! Rewrites of host and path, and where redirects lead.
//!
//! - A frontend that was accepted as an order compiles.
//! - What is put together is what a client could have asked for: it reads back as this host and this path. It
//!   is appended whole or not at all, and is nothing but the rewrite's literals and captures.
//! - A location stays on the host that it names.

#![no_main]

use std::net::SocketAddr;

use kakehi_command::order::{HttpFrontend, RewritePart};
use kakehi_command::proto::{self, PathRuleKind, RequestHttpFrontend};
use kakehi_fuzz::{LIMITS, LIMITS_WRITTEN};
use kakehi_lib::policy::Rewriter;
use kakehi_lib::policy::redirect::{Location, write_location};
use kakehi_lib::protocol::h1::head::{FieldStorage, Parsed, parse_request};
use kakehi_lib::protocol::http::HeadLimits;
use libfuzzer_sys::fuzz_target;

/// Host and path of a request, as they are routed. `None`: there is no such request.
fn request(host: &str, path: &str, limits: &HeadLimits) -> Option<(String, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut storage = FieldStorage::new();
    match parse_request(head.as_bytes(), &mut storage, limits) {
        Ok(Parsed::Complete { head: it, bytes }) if bytes == head.len() => {
            Some((it.host.to_owned(), it.target.route_path().to_owned()))
        }
        _ => None,
    }
}

type Method = fn(&Rewriter, &str, &str, &mut Vec<u8>) -> bool;

fn apply(rewriter: &Rewriter, method: Method, host: &str, path: &str) -> Option<String> {
    let mut out = b"before".to_vec();
    let wrote = method(rewriter, host, path, &mut out);
    let appended = out.strip_prefix(b"before").expect("it only appends");
    assert!(wrote || appended.is_empty(), "all or nothing");
    wrote.then(|| String::from_utf8(appended.to_vec()).expect("text"))
}

/// What a rewrite gives that captures nothing but the whole; `None`: it captures more.
fn plain(parts: &[RewritePart], host: &str, path: &str) -> Option<String> {
    let parts = parts.iter().map(|part| match part {
        RewritePart::Literal(text) => Some(text.to_string()),
        RewritePart::Host(0) => Some(host.to_ascii_lowercase()),
        RewritePart::Path(0) => Some(path.to_owned()),
        RewritePart::Host(_) | RewritePart::Path(_) => None,
    });
    parts.collect()
}

fn check_location(host: &str, port: u8, path: &str) {
    let mut out = Vec::new();
    let port = (port > 0).then_some(u16::from(port));
    write_location(&mut out, &Location { https: true, host, port, path });
    let location = String::from_utf8(out).expect("text");
    assert!(
        location.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>#\\".contains(&byte)),
        "{location}"
    );
    let rest = location.strip_prefix("https://").expect("the scheme");
    let authority_bytes = rest.find(['/', '?']).expect("a path");
    assert!(rest[authority_bytes..].starts_with('/'), "{location}");
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    assert_eq!(rest[..authority_bytes], format!("{host}{port}").replace('`', "%60"), "{location}");
}

fuzz_target!(|input: &[u8]| {
    let Some((&flags, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok::<[&str; 6], _>(lines) = text.split('\n').collect::<Vec<_>>().try_into() else { return };
    let [hostname, rule, rewrite_host, rewrite_path, host, path] = lines;
    let Some((host, path)) = request(host, path, &LIMITS) else { return };
    check_location(&host, flags >> 2, &path);

    let kind =
        [PathRuleKind::Prefix, PathRuleKind::Regex, PathRuleKind::Equals][usize::from(flags & 3).min(2)];
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let frontend = HttpFrontend::from_wire(RequestHttpFrontend {
        cluster_id: Some("app".into()),
        address: SocketAddr::from(([127, 0, 0, 1], 80)).into(),
        hostname: hostname.into(),
        path: proto::PathRule { kind: kind.into(), value: rule.into() },
        position: proto::RulePosition::Tree.into(),
        rewrite_host: given(rewrite_host),
        rewrite_path: given(rewrite_path),
        ..Default::default()
    });
    let Ok(frontend) = frontend else { return };
    let rewriter = Rewriter::compile(&frontend).expect("what was accepted compiles");
    assert_eq!(rewriter.is_some(), given(rewrite_host).or(given(rewrite_path)).is_some());
    let Some(rewriter) = rewriter else { return };
    let policy = frontend.policy().expect("it has rewrites");

    let new_host = apply(&rewriter, Rewriter::host, &host, &path);
    if let Some(new) = &new_host {
        assert_eq!(request(new, "/", &LIMITS_WRITTEN), Some((new.clone(), "/".to_owned())));
        check_location(new, 0, &path);
        let expected = policy.rewrite_host().and_then(|rewrite| plain(rewrite.parts(), &host, &path));
        assert!(expected.is_none_or(|expected| expected.eq_ignore_ascii_case(new)));
    }
    if let Some(new) = apply(&rewriter, Rewriter::path, &host, &path) {
        assert_eq!(request("a", &new, &LIMITS_WRITTEN), Some(("a".to_owned(), new.clone())));
        check_location("a", 0, &new);
        let expected = policy.rewrite_path().and_then(|rewrite| plain(rewrite.parts(), &host, &path));
        assert!(expected.is_none_or(|expected| expected == new));
    }
});
