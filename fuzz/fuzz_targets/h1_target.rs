//! Targets and authorities: an input is a target, a line feed and a `Host`. What is accepted holds together,
//! and is accepted again in each form in which it can be said.

#![no_main]

use kakehi_fuzz::LIMITS;
use kakehi_lib::protocol::h1::error::RequestError;
use kakehi_lib::protocol::h1::head::{FieldStorage, Parsed, Target, parse_request};
use libfuzzer_sys::fuzz_target;

/// Target path, authority and host of a request that is accepted.
fn parse(
    method: &str,
    target: &[u8],
    host: &[u8],
) -> Result<(Vec<u8>, Vec<u8>, Vec<u8>), Option<RequestError>> {
    let request = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    let mut storage = FieldStorage::new();
    match parse_request(&request, &mut storage, &LIMITS) {
        Ok(Parsed::Complete { head, bytes }) if bytes == request.len() => {
            check(&head.target, head.host, head.authority);
            let bytes = |text: &str| text.as_bytes().to_vec();
            Ok((bytes(head.target.path()), bytes(head.authority), bytes(head.host)))
        }
        Ok(_) => Err(None),
        Err(error) => Err(Some(error)),
    }
}

fn check(target: &Target<'_>, host: &str, authority: &str) {
    assert!(target.route_path().starts_with('/'));
    assert!(target.path().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(!host.is_empty() && authority.starts_with(host));
    assert!(!host.contains(['/', '?', '#', '@', '%', ',', ' ', '\\']));
    assert!(host.starts_with('[') || !host.contains([':', '[', ']']));
    let port = &authority[host.len()..];
    assert!(port.is_empty() || port == ":" || port[1..].parse::<u16>().is_ok());
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == b'\n');
    let (target, host) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for method in ["GET", "OPTIONS", "CONNECT"] {
        let Ok((path, authority, name)) = parse(method, target, host) else { continue };
        if method == "CONNECT" || path == b"*" {
            continue;
        }
        // The same request in origin form and in absolute form.
        let origin = parse(method, &path, &authority).expect("origin form");
        assert_eq!(origin, (path.clone(), authority.clone(), name.clone()));
        let absolute = [b"http://", &authority[..], &path].concat();
        if absolute.len() + method.len() + "  HTTP/1.1".len() > LIMITS.request_line_max {
            continue;
        }
        assert_eq!(parse(method, &absolute, &authority).expect("absolute form"), origin);
        // Another host beside it is another request.
        let other = parse(method, &absolute, b"other.invalid");
        assert!(other == Err(Some(RequestError::HostDiffers)) || name.eq_ignore_ascii_case(b"other.invalid"));
    }
});
