//! Health checks of clusters: what is asked of backends, and how often.

use std::net::SocketAddr;
use std::time::Duration;

use super::{OrderError, is_token, wire_enum};
use crate::proto;

/// Longest target of a probe, in bytes.
pub const PROBE_URI_BYTES_MAX: usize = 2048;
/// Longest Host of a probe, in bytes: a name and a port.
pub const PROBE_HOST_BYTES_MAX: usize = 261;
/// Most ranges of statuses in one check.
pub const PROBE_STATUSES_MAX: usize = 64;
/// Most secret headers in one check.
pub const PROBE_HEADERS_MAX: usize = 32;
/// Most bytes of all secret headers of a check: their names, their values, and four for each line.
pub const PROBE_HEADER_BYTES_MAX: usize = 8192;
/// How far an interval may be from the configured one, in percent, where the check does not say.
pub const PROBE_JITTER_PERCENT_DEFAULT: u32 = 10;

/// What a fingerprint of a secret header's value begins with; two numbers in hexadecimal follow.
const FINGERPRINT_PREFIX: &str = "sozu-hc-hmac-sha256:v1:";

/// Headers that a probe has of its own, or that would change where it ends.
const RESERVED_HEADERS: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

/// A cluster's health check, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    wire: proto::HealthCheckConfig,
    kind: ProbeKind,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// It asks for a status.
    Http,
    /// It connects.
    Tcp,
}

impl HealthCheck {
    /// Checks a health check that came from outside.
    ///
    /// # Errors
    /// Values out of range or at odds with each other.
    pub fn from_wire(wire: proto::HealthCheckConfig) -> Result<Self, OrderError> {
        let kind = match wire_enum("health_check.mode", wire.mode)? {
            proto::HealthCheckMode::Http => ProbeKind::Http,
            proto::HealthCheckMode::Tcp => ProbeKind::Tcp,
        };
        for (field, value) in [
            ("health_check.interval", wire.interval),
            ("health_check.timeout", wire.timeout),
            ("health_check.healthy_threshold", wire.healthy_threshold),
            ("health_check.unhealthy_threshold", wire.unhealthy_threshold),
        ] {
            if value == 0 {
                return Err(OrderError::invalid(field, "0", "is not at least 1"));
            }
        }
        if kind == ProbeKind::Http {
            check_uri(&wire.uri)?;
        }
        check_statuses(&wire, kind)?;
        if let Some(port) = wire.port
            && !(1..=65_535).contains(&port)
        {
            return Err(OrderError::invalid("health_check.port", &port.to_string(), "is not a port"));
        }
        if let Some(host) = &wire.host {
            check_host(host)?;
        }
        if let Some(percent) = wire.jitter_percent
            && percent > 100
        {
            let (field, value) = ("health_check.jitter_percent", percent.to_string());
            return Err(OrderError::invalid(field, &value, "is more than 100"));
        }
        check_headers(&wire, kind)?;
        Ok(Self { wire, kind })
    }

    /// The check as it came.
    #[must_use]
    pub fn wire(&self) -> &proto::HealthCheckConfig {
        &self.wire
    }

    /// What a probe does.
    #[must_use]
    pub fn kind(&self) -> ProbeKind {
        self.kind
    }

    /// From one probe to the next, at least a second.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.wire.interval.into())
    }

    /// How far an interval may be from that, in percent of it, 0 to 100.
    #[must_use]
    pub fn jitter_percent(&self) -> u32 {
        self.wire.jitter_percent.unwrap_or(PROBE_JITTER_PERCENT_DEFAULT)
    }

    /// How long a probe may take, at least a second.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.wire.timeout.into())
    }

    /// Successes in a row that make a backend healthy again, at least 1.
    #[must_use]
    pub fn healthy_threshold(&self) -> u32 {
        self.wire.healthy_threshold
    }

    /// Failures in a row that make it unhealthy, at least 1.
    #[must_use]
    pub fn unhealthy_threshold(&self) -> u32 {
        self.wire.unhealthy_threshold
    }

    /// The port that is probed, if it is not the backend's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.wire.port.and_then(|port| u16::try_from(port).ok())
    }

    /// Where the backend at `address` is probed.
    #[must_use]
    pub fn target(&self, mut address: SocketAddr) -> SocketAddr {
        if let Some(port) = self.port() {
            address.set_port(port);
        }
        address
    }

    /// Whether an answer with this status is a success.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        let status = u32::from(status);
        if !self.wire.accepted_statuses.is_empty() {
            return self.wire.accepted_statuses.iter().any(|it| (it.start..=it.end).contains(&status));
        }
        match self.wire.expected_status {
            0 => (200..300).contains(&status),
            expected => status == expected,
        }
    }

    /// Names and fingerprints of secret headers, in the order in which they are sent.
    pub fn secret_headers(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.wire.headers.iter().map(|header| (header.name.as_str(), header.fingerprint.as_str()))
    }

    /// The bytes of a probe for the backend at `address`; `None` if a value is missing.
    #[must_use]
    pub fn request<'v>(
        &self,
        address: SocketAddr,
        value_of: impl Fn(&str) -> Option<&'v [u8]>,
    ) -> Option<Vec<u8>> {
        let mut request = format!("GET {} HTTP/1.1\r\nHost: ", self.wire.uri).into_bytes();
        match &self.wire.host {
            Some(host) => request.extend_from_slice(host.as_bytes()),
            None => request.extend_from_slice(self.target(address).to_string().as_bytes()),
        }
        request.extend_from_slice(
            b"\r\nConnection: close\r\nUser-Agent: kakehi-health-check\r\nAccept: */*\r\n",
        );
        for (name, fingerprint) in self.secret_headers() {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value_of(fingerprint)?);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Some(request)
    }
}

fn check_uri(uri: &str) -> Result<(), OrderError> {
    const FIELD: &str = "health_check.uri";
    if uri.len() > PROBE_URI_BYTES_MAX {
        return Err(OrderError::invalid(FIELD, uri, "is longer than 2048 bytes"));
    }
    if !uri.starts_with('/') {
        return Err(OrderError::invalid(FIELD, uri, "does not begin with /"));
    }
    // A space would end the target (RFC 9112 §3).
    if uri.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(OrderError::invalid(FIELD, uri, "has a space or a control character"));
    }
    Ok(())
}

/// RFC 3986 §3.2.2 loosely: nothing that could end the line, or be taken for user information.
fn check_host(host: &str) -> Result<(), OrderError> {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
    if host.is_empty() || host.len() > PROBE_HOST_BYTES_MAX || !host.bytes().all(usable) {
        return Err(OrderError::invalid("health_check.host", host, "is not a host"));
    }
    Ok(())
}

fn check_statuses(wire: &proto::HealthCheckConfig, kind: ProbeKind) -> Result<(), OrderError> {
    const FIELD: &str = "health_check.accepted_statuses";
    if wire.accepted_statuses.len() > PROBE_STATUSES_MAX {
        return Err(OrderError::plain(FIELD, "has more than 64 ranges"));
    }
    for range in &wire.accepted_statuses {
        if range.start < 100 || range.end > 599 || range.start > range.end {
            let text = format!("{}-{}", range.start, range.end);
            return Err(OrderError::invalid(FIELD, &text, "is not a range within 100-599"));
        }
    }
    let expected = wire.expected_status;
    if expected != 0 && !(100..=599).contains(&expected) {
        let field = "health_check.expected_status";
        return Err(OrderError::invalid(field, &expected.to_string(), "is not a status"));
    }
    if !wire.accepted_statuses.is_empty() && (expected != 0 || kind == ProbeKind::Tcp) {
        let reason = match kind {
            ProbeKind::Http => "is set beside expected_status: only one can be",
            ProbeKind::Tcp => "needs the mode HTTP",
        };
        return Err(OrderError::plain(FIELD, reason));
    }
    Ok(())
}

fn check_headers(wire: &proto::HealthCheckConfig, kind: ProbeKind) -> Result<(), OrderError> {
    const FIELD: &str = "health_check.headers";
    if wire.headers.len() > PROBE_HEADERS_MAX {
        return Err(OrderError::plain(FIELD, "has more than 32 entries"));
    }
    if kind == ProbeKind::Tcp && !wire.headers.is_empty() {
        return Err(OrderError::plain(FIELD, "needs the mode HTTP"));
    }
    for (place, header) in wire.headers.iter().enumerate() {
        check_header_name(&header.name)?;
        let same = |other: &proto::HealthCheckHeader| other.name.eq_ignore_ascii_case(&header.name);
        if wire.headers.iter().take(place).any(same) {
            return Err(OrderError::invalid(FIELD, &header.name, "is there twice"));
        }
        if !is_fingerprint(&header.fingerprint) {
            return Err(OrderError::invalid(FIELD, &header.name, "has no fingerprint of a value"));
        }
    }
    Ok(())
}

/// Checks the name of a secret header.
///
/// # Errors
/// It is none, or one that a probe may not have.
pub fn check_header_name(name: &str) -> Result<(), OrderError> {
    const FIELD: &str = "health_check.headers";
    if !is_token(name) {
        return Err(OrderError::invalid(FIELD, name, "is not a header's name"));
    }
    if RESERVED_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(OrderError::invalid(FIELD, name, "is a header that probes have of their own"));
    }
    Ok(())
}

/// A range of statuses as operators write it: `200`, `200-399`, `2xx` or `any`.
#[must_use]
pub fn status_range(text: &str) -> Option<proto::HttpStatusRange> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|status| digits && (100..=599).contains(status))
    };
    let (start, end) = if text.eq_ignore_ascii_case("any") {
        (100, 599)
    } else if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class = class.parse::<u32>().ok().filter(|class| (1..=5).contains(class))?;
        (class * 100, class * 100 + 99)
    } else if let Some((start, end)) = text.split_once('-') {
        (status(start)?, status(end)?)
    } else {
        (status(text)?, status(text)?)
    };
    (start <= end).then_some(proto::HttpStatusRange { start, end })
}

/// Checks the values of a check's secret headers, which have their names, in their order.
///
/// # Errors
/// They are not those that the check names, too long together, or one can be no header's value.
pub fn check_header_values<'v>(
    names: impl ExactSizeIterator<Item = &'v str>,
    values: impl ExactSizeIterator<Item = (&'v str, &'v [u8])>,
) -> Result<(), OrderError> {
    const FIELD: &str = "values";
    if names.len() != values.len() {
        return Err(OrderError::plain(FIELD, "are not as many as headers"));
    }
    let mut bytes = 0;
    for (name, (of, value)) in names.zip(values) {
        check_header_name(name)?;
        if name != of {
            return Err(OrderError::invalid(FIELD, of, "is not the name of the header in its place"));
        }
        // RFC 9110 §5.5; bytes beyond ASCII are opaque.
        let ends_blank = value.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            || value.last().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        if value.is_empty()
            || ends_blank
            || value.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control())
        {
            return Err(OrderError::invalid(FIELD, name, "has a value that no header can have"));
        }
        bytes += name.len() + value.len() + 4;
    }
    if bytes > PROBE_HEADER_BYTES_MAX {
        return Err(OrderError::plain(FIELD, "are longer than 8192 bytes, with their names"));
    }
    Ok(())
}

fn is_fingerprint(text: &str) -> bool {
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let numbers = text.strip_prefix(FINGERPRINT_PREFIX).and_then(|rest| rest.split_once(':'));
    numbers.is_some_and(|(key, mac)| is_hex(key, 32) && is_hex(mac, 64))
}

/// A fingerprint, out of the name of the key and the code that it gives for a value.
#[must_use]
pub fn fingerprint_text(key_id: &[u8; 16], mac: &[u8; 32]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{FINGERPRINT_PREFIX}{}:{}", hex(key_id), hex(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> proto::HealthCheckConfig {
        proto::HealthCheckConfig { uri: "/up".into(), ..Default::default() }
    }

    fn fingerprint() -> String {
        fingerprint_text(&[0xab; 16], &[7; 32])
    }

    fn header(name: &str) -> proto::HealthCheckHeader {
        proto::HealthCheckHeader { name: name.into(), fingerprint: fingerprint() }
    }

    fn check(edit: impl FnOnce(&mut proto::HealthCheckConfig), expected: &str) {
        let mut wire = wire();
        edit(&mut wire);
        let error = HealthCheck::from_wire(wire).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    fn range(start: u32, end: u32) -> proto::HttpStatusRange {
        proto::HttpStatusRange { start, end }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        check(|wire| wire.interval = 0, "health_check.interval `0` is not at least 1");
        check(|wire| wire.timeout = 0, "health_check.timeout `0`");
        check(|wire| wire.healthy_threshold = 0, "healthy_threshold `0`");
        check(|wire| wire.unhealthy_threshold = 0, "unhealthy_threshold `0`");
        check(|wire| wire.mode = 2, "health_check.mode `2` is not known");
        check(|wire| wire.uri = "up".into(), "does not begin with /");
        check(|wire| wire.uri = "/a b".into(), "has a space");
        check(|wire| wire.uri = "/\r\n".into(), "control character");
        check(|wire| wire.uri = format!("/{}", "a".repeat(2048)), "longer than 2048");
        check(|wire| wire.port = Some(0), "is not a port");
        check(|wire| wire.port = Some(65_536), "is not a port");
        check(|wire| wire.expected_status = 99, "is not a status");
        check(|wire| wire.accepted_statuses = vec![range(300, 200)], "`300-200` is not a range");
        check(|wire| wire.accepted_statuses = vec![range(200, 600)], "is not a range");
        check(
            |wire| (wire.accepted_statuses, wire.expected_status) = (vec![range(200, 299)], 204),
            "only one can be",
        );
        check(|wire| wire.host = Some("a\r\nb".into()), "is not a host");
        check(|wire| wire.jitter_percent = Some(101), "is more than 100");
        check(|wire| wire.headers = vec![header("Host")], "`Host` is a header that probes have");
        check(|wire| wire.headers = vec![header("X-A"), header("x-a")], "`x-a` is there twice");
        check(|wire| wire.headers = vec![header("a b")], "is not a header's name");
        check(
            |wire| {
                wire.headers = vec![proto::HealthCheckHeader { name: "X-A".into(), fingerprint: "x".into() }];
            },
            "has no fingerprint",
        );
        check(
            |wire| {
                wire.mode = proto::HealthCheckMode::Tcp.into();
                wire.accepted_statuses = vec![range(200, 299)];
            },
            "needs the mode HTTP",
        );
    }

    #[test]
    fn statuses_are_judged() {
        let of = |edit: fn(&mut proto::HealthCheckConfig)| {
            let mut wire = wire();
            edit(&mut wire);
            HealthCheck::from_wire(wire).expect("accepted")
        };
        let usual = of(|_| {});
        assert!(usual.accepts(200) && usual.accepts(299) && !usual.accepts(301) && !usual.accepts(503));
        let expected = of(|wire| wire.expected_status = 401);
        assert!(expected.accepts(401) && !expected.accepts(200));
        let ranges = of(|wire| wire.accepted_statuses = vec![range(200, 200), range(400, 499)]);
        assert!(ranges.accepts(200) && ranges.accepts(404) && !ranges.accepts(201) && !ranges.accepts(500));
    }

    #[test]
    fn ranges_of_statuses_are_read() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            assert_eq!(status_range(text).map(|range| (range.start, range.end)), expected, "{text}");
        };
        check("200", Some((200, 200)));
        check("200-399", Some((200, 399)));
        check("2xx", Some((200, 299)));
        check("any", Some((100, 599)));
        for text in ["", "20", "6xx", "0xx", "399-200", "200-", "2000", "+20", "600", "200-6xx"] {
            check(text, None);
        }
    }

    #[test]
    fn values_of_headers_are_checked() {
        let check = |names: &[&str], values: &[(&str, &[u8])], expected: &str| {
            let result = check_header_values(names.iter().copied(), values.iter().copied());
            match expected {
                "" => assert_eq!(result, Ok(())),
                _ => assert!(result.expect_err("refused").to_string().contains(expected)),
            }
        };
        check(&["X-A"], &[("X-A", b"secret")], "");
        check(&["X-A"], &[], "not as many");
        check(&["X-A"], &[("X-B", b"secret")], "not the name");
        check(&["X-A"], &[("X-A", b"a\r\nb: c")], "no header can have");
        check(&["X-A"], &[("X-A", b"")], "no header can have");
        check(&["X-A"], &[("X-A", b"secret ")], "no header can have");
        check(&["X-A"], &[("X-A", &[b'a'; 8192])], "longer than 8192");
        check(&["Host"], &[("Host", b"a")], "of their own");
    }

    #[test]
    fn a_probe_is_a_request_that_says_all_and_no_more() {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let check =
            proto::HealthCheckConfig { port: Some(81), headers: vec![header("Authorization")], ..wire() };
        let check = HealthCheck::from_wire(check).expect("accepted");
        assert_eq!(check.target(address).port(), 81);
        assert_eq!(check.request(address, |_| None), None, "not without its value");
        let request = check.request(address, |_| Some(b"Bearer x")).expect("whole");
        let text = String::from_utf8(request).expect("text");
        assert_eq!(
            text,
            "GET /up HTTP/1.1\r\nHost: 10.0.0.1:81\r\nConnection: close\r\nUser-Agent: kakehi-health-check\r\n\
             Accept: */*\r\nAuthorization: Bearer x\r\n\r\n"
        );
        let named = proto::HealthCheckConfig { host: Some("app.example".into()), ..wire() };
        let named = HealthCheck::from_wire(named).expect("accepted");
        let request = named.request(address, |_| None).expect("no value is wanted");
        assert!(request.windows(19).any(|bytes| bytes == b"Host: app.example\r\n"));
    }
}
