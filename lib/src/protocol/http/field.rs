//! The field names that mean something to a proxy, and what it owes them.
//!
//! One look-up per field line, by length first: most names are told apart without comparing a byte.

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
    /// `X-Request-Id`.
    XRequestId,
    /// Credentials, cookies, conditions, `Content-*`, cache directives: end-to-end and passed on as
    /// they are, but out of place in trailers (RFC 9110 §6.5.1) and beyond the reach of
    /// `Connection`.
    EndToEnd,
    /// Everything else.
    Other,
}

impl Field {
    /// Looks a name up, without regard to ASCII case (RFC 9110 §5.1).
    pub fn of(name: &str) -> Field {
        use Field::*;
        let candidates: &[(&str, Field)] = match name.len() {
            2 => &[("te", HopByHop)],
            4 => &[("host", Host), ("vary", EndToEnd)],
            5 => &[("range", EndToEnd)],
            6 => &[("cookie", EndToEnd), ("expect", Expect), ("pragma", EndToEnd)],
            7 => &[("upgrade", HopByHop), ("trailer", Trailer)],
            8 => &[("location", EndToEnd), ("if-match", EndToEnd), ("if-range", EndToEnd)],
            9 => &[("x-real-ip", XRealIp), ("forwarded", Forwarded)],
            10 => &[("connection", Connection), ("keep-alive", HopByHop), ("set-cookie", EndToEnd)],
            12 => &[("content-type", EndToEnd), ("x-request-id", XRequestId), ("max-forwards", EndToEnd)],
            13 => &[
                ("authorization", EndToEnd),
                ("cache-control", EndToEnd),
                ("if-none-match", EndToEnd),
                ("content-range", EndToEnd),
            ],
            14 => &[("content-length", ContentLength)],
            15 => &[("x-forwarded-for", XForwardedFor)],
            16 => &[
                ("content-encoding", EndToEnd),
                ("x-forwarded-host", XForwardedHost),
                ("x-forwarded-port", XForwardedPort),
                ("proxy-connection", HopByHop),
                ("www-authenticate", EndToEnd),
            ],
            17 => &[
                ("x-forwarded-proto", XForwardedProto),
                ("transfer-encoding", TransferEncoding),
                ("if-modified-since", EndToEnd),
            ],
            18 => &[("proxy-authenticate", HopByHop)],
            19 => &[
                ("proxy-authorization", HopByHop),
                ("if-unmodified-since", EndToEnd),
                ("authentication-info", EndToEnd),
            ],
            25 => &[("proxy-authentication-info", HopByHop)],
            _ => return Other,
        };
        candidates
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(Other, |&(_, field)| field)
    }

    /// Whether a name listed in `Connection` makes this field hop-by-hop (RFC 9110 §7.6.1).
    ///
    /// Only for names unknown to us. Otherwise a client could strip, on the way, what the backend relies on:
    /// `Connection: X-Forwarded-For` removing the address written by a proxy before us, for one.
    pub fn yields_to_connection(self) -> bool {
        self == Field::Other
    }

    /// Whether the field may not travel as a trailer (RFC 9110 §6.5.1): it says something about
    /// framing, routing, credentials, the connection, forwarding, or how to process the content,
    /// which came before it.
    pub fn is_forbidden_in_trailers(self) -> bool {
        self != Field::Other
    }
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
            ("X-Forwarded-For", Field::XForwardedFor),
            ("X-Forwarded-Proto", Field::XForwardedProto),
            ("X-Forwarded-Port", Field::XForwardedPort),
            ("X-Forwarded-Host", Field::XForwardedHost),
            ("X-Real-IP", Field::XRealIp),
            ("X-Request-Id", Field::XRequestId),
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
            assert_eq!(Field::of(name), expected, "{name}");
            assert_eq!(Field::of(&name.to_ascii_lowercase()), expected, "{name} in lower case");
            assert_eq!(Field::of(&name.to_ascii_uppercase()), expected, "{name} in upper case");
        }
    }
}
