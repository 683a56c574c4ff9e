//! The field names that mean something to a proxy, and what it owes them.
//!
//! One look-up per field line, by length and first letter: most names are told apart by these alone.

/// A field name as far as this proxy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `Host`: routing; written once, first, from the authority in force.
    Host,
    /// `Content-Length`: framing; written anew from what was understood.
    ContentLength,
    /// `Transfer-Encoding`: framing; written anew from what was understood.
    TransferEncoding,
    /// `Connection`: hop-by-hop, and the names of further hop-by-hop fields.
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `TE`, `Upgrade`, `Proxy-Authenticate`,
    /// `Proxy-Authorization`, `Proxy-Authentication-Info`: they speak to the next hop, which is us.
    ///
    /// RFC 9110 §7.6.1 lists the first four. The proxy credentials apply to the next proxy that
    /// asked for them (§11.7.1 to §11.7.3); we ask for none, and handing them to a backend would
    /// leak what a client meant for a forward proxy. A dropped `Upgrade` makes the backend answer
    /// as if it could not upgrade (§7.8).
    HopByHop,
    /// `Expect` (RFC 9110 §10.1.1).
    Expect,
    /// `Trailer` (RFC 9110 §6.6.2): end-to-end, but void when trailers are not passed on.
    Trailer,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Forwarded-Port`.
    XForwardedPort,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `X-Real-IP`.
    XRealIp,
    /// Any other `X-Forwarded` or `X-Forwarded-...`: `-Prefix`, `-Server`.
    XForwarded,
    /// `X-Request-Id`.
    XRequestId,
    /// `Early-Data` (RFC 8470 §5.1): passed on, and added where we can't vouch for a request.
    EarlyData,
    /// `traceparent` (W3C Trace Context §3.2).
    TraceParent,
    /// `tracestate` (W3C Trace Context §3.3).
    TraceState,
    /// Credentials, cookies, conditions, `Content-*`, cache directives: end-to-end and passed on as
    /// they are, but out of place in trailers (RFC 9110 §6.5.1) and beyond the reach of
    /// `Connection`.
    EndToEnd,
    /// Everything else.
    Other,
}

impl Field {
    /// Looks a name up, without regard to ASCII case (RFC 9110 §5.1). `name` is a token (§5.6.2): of other
    /// bytes some control characters would be taken for the hyphen.
    pub fn of(name: &[u8]) -> Field {
        use Field::*;
        let Some(&first) = name.first() else { return Other };
        let candidates: &[(&[u8], Field)] = match (name.len(), first | 0x20) {
            (2, b't') => &[(b"te", HopByHop)],
            (4, b'h') => &[(b"host", Host)],
            (4, b'v') => &[(b"vary", EndToEnd)],
            (5, b'r') => &[(b"range", EndToEnd)],
            (6, b'c') => &[(b"cookie", EndToEnd)],
            (6, b'e') => &[(b"expect", Expect)],
            (6, b'p') => &[(b"pragma", EndToEnd)],
            (7, b'u') => &[(b"upgrade", HopByHop)],
            (7, b't') => &[(b"trailer", Trailer)],
            (8, b'l') => &[(b"location", EndToEnd)],
            (8, b'i') => &[(b"if-match", EndToEnd), (b"if-range", EndToEnd)],
            (9, b'x') => &[(b"x-real-ip", XRealIp)],
            (9, b'f') => &[(b"forwarded", Forwarded)],
            (10, b'c') => &[(b"connection", Connection)],
            (10, b'e') => &[(b"early-data", EarlyData)],
            (10, b'k') => &[(b"keep-alive", HopByHop)],
            (10, b's') => &[(b"set-cookie", EndToEnd)],
            (10, b't') => &[(b"tracestate", TraceState)],
            (11, b't') => &[(b"traceparent", TraceParent)],
            (12, b'c') => &[(b"content-type", EndToEnd)],
            (12, b'x') => &[(b"x-request-id", XRequestId)],
            (12, b'm') => &[(b"max-forwards", EndToEnd)],
            (13, b'a') => &[(b"authorization", EndToEnd)],
            (13, b'c') => &[(b"cache-control", EndToEnd), (b"content-range", EndToEnd)],
            (13, b'i') => &[(b"if-none-match", EndToEnd)],
            (14, b'c') => &[(b"content-length", ContentLength)],
            (15, b'x') => &[(b"x-forwarded-for", XForwardedFor)],
            (16, b'c') => &[(b"content-encoding", EndToEnd)],
            (16, b'x') => &[(b"x-forwarded-host", XForwardedHost), (b"x-forwarded-port", XForwardedPort)],
            (16, b'p') => &[(b"proxy-connection", HopByHop)],
            (16, b'w') => &[(b"www-authenticate", EndToEnd)],
            (17, b'x') => &[(b"x-forwarded-proto", XForwardedProto)],
            (17, b't') => &[(b"transfer-encoding", TransferEncoding)],
            (17, b'i') => &[(b"if-modified-since", EndToEnd)],
            (18, b'p') => &[(b"proxy-authenticate", HopByHop)],
            (19, b'p') => &[(b"proxy-authorization", HopByHop)],
            (19, b'i') => &[(b"if-unmodified-since", EndToEnd)],
            (19, b'a') => &[(b"authentication-info", EndToEnd)],
            (25, b'p') => &[(b"proxy-authentication-info", HopByHop)],
            (11.., b'x') if is_x_forwarded(name) => return XForwarded,
            _ => return Other,
        };
        let found = candidates.iter().find(|(known, _)| is_same(name, known)).map(|&(_, field)| field);
        found.unwrap_or_else(|| if is_x_forwarded(name) { XForwarded } else { Other })
    }

    /// Whether a name listed in `Connection` makes this field hop-by-hop (RFC 9110 §7.6.1).
    ///
    /// Only for names unknown to us. Otherwise a client could strip, on the way, what the backend relies on:
    /// `Connection: X-Forwarded-For` removing the address written by a proxy before us, for one.
    pub fn yields_to_connection(self) -> bool {
        self == Field::Other
    }

    /// Whether it tells where a request came from before it came to us.
    pub fn is_claim(self) -> bool {
        use Field::{
            Forwarded, XForwarded, XForwardedFor, XForwardedHost, XForwardedPort, XForwardedProto, XRealIp,
        };
        matches!(
            self,
            Forwarded
                | XForwarded
                | XForwardedFor
                | XForwardedHost
                | XForwardedPort
                | XForwardedProto
                | XRealIp
        )
    }

    /// Whether the field may not travel as a trailer (RFC 9110 §6.5.1): it says something about
    /// framing, routing, credentials, the connection, forwarding, or how to process the content,
    /// which came before it.
    pub fn is_forbidden_in_trailers(self) -> bool {
        self != Field::Other
    }
}

/// Whether a name begins with `X-Forwarded`.
fn is_x_forwarded(name: &[u8]) -> bool {
    name.split_at_checked(11).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(b"x-forwarded") && matches!(rest.first(), None | Some(b'-'))
    })
}

/// Whether a token is `known`, which is in lower case and as long. Eight letters at a time, the last ones
/// twice: for letters, digits and the hyphen, setting one bit is lower case.
fn is_same(name: &[u8], known: &[u8]) -> bool {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    debug_assert_eq!(name.len(), known.len());
    let (Some((name_end, known_end)), true) = (name.last_chunk().zip(known.last_chunk()), name.len() >= 8)
    else {
        return name.iter().zip(known).all(|(byte, known)| byte | 0x20 == *known);
    };
    let same =
        |name: &[u8; 8], known: &[u8; 8]| u64::from_ne_bytes(*name) | LOWER == u64::from_ne_bytes(*known);
    let (names, _) = name.as_chunks();
    let (knowns, _) = known.as_chunks();
    same(name_end, known_end) && names.iter().zip(knowns).all(|(name, known)| same(name, known))
}

/// Which kinds of fields a head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet(u32);

const _: () = assert!((Field::Other as u32) < u32::BITS, "a bit for each kind");

impl FieldSet {
    /// Notes that there is one of this kind.
    pub fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    /// Whether there is one of this kind.
    pub fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u32) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, FieldSet};

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = FieldSet::default();
        assert!(!set.contains(Field::Host));
        set.insert(Field::Host);
        set.insert(Field::Other);
        assert!(set.contains(Field::Host) && set.contains(Field::Other) && !set.contains(Field::Connection));
    }

    #[test]
    fn every_known_name_is_found_in_any_case() {
        let names = [
            ("Host", Field::Host),
            ("Content-Length", Field::ContentLength),
            ("Transfer-Encoding", Field::TransferEncoding),
            ("Connection", Field::Connection),
            ("Keep-Alive", Field::HopByHop),
            ("Proxy-Connection", Field::HopByHop),
            ("TE", Field::HopByHop),
            ("Upgrade", Field::HopByHop),
            ("Proxy-Authenticate", Field::HopByHop),
            ("Proxy-Authorization", Field::HopByHop),
            ("Proxy-Authentication-Info", Field::HopByHop),
            ("Expect", Field::Expect),
            ("Trailer", Field::Trailer),
            ("Forwarded", Field::Forwarded),
            ("Early-Data", Field::EarlyData),
            ("X-Forwarded-For", Field::XForwardedFor),
            ("X-Forwarded-Proto", Field::XForwardedProto),
            ("X-Forwarded-Port", Field::XForwardedPort),
            ("X-Forwarded-Host", Field::XForwardedHost),
            ("X-Real-IP", Field::XRealIp),
            ("X-Request-Id", Field::XRequestId),
            ("Traceparent", Field::TraceParent),
            ("Tracestate", Field::TraceState),
            ("Vary", Field::EndToEnd),
            ("Range", Field::EndToEnd),
            ("Cookie", Field::EndToEnd),
            ("Pragma", Field::EndToEnd),
            ("Location", Field::EndToEnd),
            ("If-Match", Field::EndToEnd),
            ("If-Range", Field::EndToEnd),
            ("Set-Cookie", Field::EndToEnd),
            ("Content-Type", Field::EndToEnd),
            ("Max-Forwards", Field::EndToEnd),
            ("Authorization", Field::EndToEnd),
            ("Cache-Control", Field::EndToEnd),
            ("If-None-Match", Field::EndToEnd),
            ("Content-Range", Field::EndToEnd),
            ("Content-Encoding", Field::EndToEnd),
            ("WWW-Authenticate", Field::EndToEnd),
            ("If-Modified-Since", Field::EndToEnd),
            ("If-Unmodified-Since", Field::EndToEnd),
            ("Authentication-Info", Field::EndToEnd),
            ("Accept", Field::Other),
            ("Hosts", Field::Other),
            ("X-Request-I", Field::Other),
            ("", Field::Other),
        ];
        for (name, expected) in names {
            assert_eq!(Field::of(name.as_bytes()), expected, "{name}");
            assert_eq!(Field::of(name.to_ascii_lowercase().as_bytes()), expected, "{name} in lower case");
            assert_eq!(Field::of(name.to_ascii_uppercase().as_bytes()), expected, "{name} in upper case");
        }
    }
}
