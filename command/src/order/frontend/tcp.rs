//! TCP frontends: which connections of a listener go to which cluster.
//!
//! Either all of them, or those whose TLS ClientHello asks for a name (RFC 6066 §3) and offers a protocol
//! (RFC 7301). What two frontends of one address may not both say is decided in [`crate::state`].

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::check_tags;
use crate::{
    order::{ClusterId, HostPattern, OrderError, address, listener::alpn_names},
    proto,
};

/// A rule of the TCP listeners at one address, checked.
///
/// Its identity is address, name and protocols ([`TcpFrontend::identity`]), whatever its cluster and tags.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpFrontend {
    cluster_id: ClusterId,
    address: SocketAddr,
    sni: Option<HostPattern>,
    /// Sorted, each once.
    alpn: Box<[Box<str>]>,
    tags: Option<Arc<BTreeMap<String, String>>>,
}

/// What distinguishes a TCP frontend from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpIdentity<'a> {
    address: SocketAddr,
    sni: Option<&'a HostPattern>,
    alpn: &'a [Box<str>],
}

impl TcpFrontend {
    /// Checks a frontend that came from outside. Protocols in another order, or twice, are the same.
    ///
    /// # Errors
    /// A value that can never match: a name that no ClientHello has, a protocol without a name; protocols
    /// without a name to go with them.
    pub fn from_wire(wire: proto::RequestTcpFrontend) -> Result<Self, OrderError> {
        let sni = wire.sni.as_deref().filter(|name| !name.is_empty()).map(parse_sni).transpose()?;
        let mut alpn = alpn_names("alpn", &wire.alpn)?;
        alpn.sort_unstable();
        if sni.is_none() && !alpn.is_empty() {
            return Err(OrderError::plain("alpn", "is given without an sni, whose protocols it tells apart"));
        }
        check_tags(&wire.tags)?;
        Ok(Self {
            cluster_id: ClusterId::parse(&wire.cluster_id)?,
            address: address("address", &wire.address)?,
            sni,
            alpn: alpn.into(),
            tags: Some(wire.tags).filter(|tags| !tags.is_empty()).map(Arc::new),
        })
    }

    /// Where matching connections go.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// The address of the listeners it is a rule of.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names it is for: one, or those that have one label before a suffix. None: every connection, TLS or
    /// not.
    #[must_use]
    pub fn sni(&self) -> Option<&HostPattern> {
        self.sni.as_ref()
    }

    /// The protocols it is for, sorted, each once. None: all that no other frontend of its name is for.
    #[must_use]
    pub fn alpn(&self) -> &[Box<str>] {
        &self.alpn
    }

    /// Words for the access log.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.tags.as_deref().unwrap_or(&NONE)
    }

    /// What distinguishes it from all other TCP frontends.
    #[must_use]
    pub fn identity(&self) -> TcpIdentity<'_> {
        TcpIdentity { address: self.address, sni: self.sni.as_ref(), alpn: &self.alpn }
    }
}

impl From<&TcpFrontend> for proto::RequestTcpFrontend {
    fn from(frontend: &TcpFrontend) -> Self {
        Self {
            cluster_id: frontend.cluster_id.to_string(),
            address: frontend.address.into(),
            tags: frontend.tags().clone(),
            sni: frontend.sni.as_ref().map(ToString::to_string),
            alpn: frontend.alpn.iter().map(|name| name.to_string()).collect(),
        }
    }
}

/// `IP:PORT sni NAME alpn PROTOCOL`, shortened to what is set.
impl fmt::Display for TcpIdentity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(sni) = self.sni {
            write!(f, " sni {sni}")?;
        }
        self.alpn.iter().try_for_each(|name| write!(f, " alpn {}", name.escape_debug()))
    }
}

/// A pattern that some ClientHello's name can match.
fn parse_sni(text: &str) -> Result<HostPattern, OrderError> {
    const FIELD: &str = "sni";
    if text.contains('/') {
        return Err(OrderError::invalid(
            FIELD,
            text,
            "has an expression: a name or `*.suffix` is what it can be",
        ));
    }
    let pattern = HostPattern::parse(text).map_err(|error| match error {
        OrderError::Invalid { value, reason, .. } => OrderError::Invalid { field: FIELD, value, reason },
        other => other,
    })?;
    match &pattern {
        HostPattern::Any => {
            Err(OrderError::invalid(FIELD, text, "is for every name: leave it out, or name a suffix"))
        }
        // RFC 6066 §3: clients do not send addresses.
        HostPattern::Exact(name) if name.starts_with('[') || name.parse::<IpAddr>().is_ok() => {
            Err(OrderError::invalid(FIELD, text, "is an address, which no ClientHello asks for"))
        }
        _ => Ok(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(sni: &str, alpn: &[&str]) -> proto::RequestTcpFrontend {
        proto::RequestTcpFrontend {
            cluster_id: "a".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 443)).into(),
            sni: Some(sni.to_owned()).filter(|sni| !sni.is_empty()),
            alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
            tags: BTreeMap::new(),
        }
    }

    fn check_refused(wire: proto::RequestTcpFrontend, expected: &str) {
        let error = TcpFrontend::from_wire(wire).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_set_is_at_hand_and_goes_back() {
        let mut full = wire("*.Example.test", &["h2", "acme-tls/1", "h2"]);
        full.tags.insert("owner".into(), "us".into());
        let frontend = TcpFrontend::from_wire(full).expect("accepted");
        assert_eq!(frontend.sni(), Some(&HostPattern::Wildcard("example.test".into())));
        assert_eq!(frontend.alpn(), ["acme-tls/1".into(), "h2".into()]);
        assert_eq!((&**frontend.cluster_id(), frontend.tags().len()), ("a", 1));
        let there = "127.0.0.1:443 sni *.example.test alpn acme-tls/1 alpn h2";
        assert_eq!(frontend.identity().to_string(), there);
        assert_eq!(TcpFrontend::from_wire((&frontend).into()), Ok(frontend));
        let plain = TcpFrontend::from_wire(wire("", &[])).expect("accepted");
        assert_eq!((plain.sni(), plain.alpn().len()), (None, 0));
        assert_eq!(proto::RequestTcpFrontend::from(&plain), wire("", &[]));
    }

    #[test]
    fn an_empty_name_is_none() {
        let empty = proto::RequestTcpFrontend { sni: Some(String::new()), ..wire("", &[]) };
        assert_eq!(TcpFrontend::from_wire(empty), TcpFrontend::from_wire(wire("", &[])));
    }

    #[test]
    fn names_that_no_client_asks_for_are_refused() {
        check_refused(wire("*", &[]), "sni `*` is for every name");
        check_refused(wire("/a/.test", &[]), "sni `/a/.test` has an expression");
        check_refused(wire("a..test", &[]), "sni `a..test` has an empty label");
        check_refused(wire("bücher.test", &[]), "is not ASCII");
        check_refused(wire("*.*.test", &[]), "has a wildcard that is not its first label");
        check_refused(wire("192.0.2.1", &[]), "is an address");
        check_refused(wire("[::1]", &[]), "is an address");
    }

    #[test]
    fn protocols_have_names_and_go_with_one() {
        check_refused(wire("", &["h2"]), "alpn is given without an sni");
        check_refused(wire("a.test", &[""]), "alpn has an empty name");
        check_refused(wire("a.test", &[&"x".repeat(256)]), "is longer than 255 bytes");
        let many: Vec<String> = (0..65).map(|nth| nth.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check_refused(wire("a.test", &many), "alpn are more than 64");
        check_refused(proto::RequestTcpFrontend { cluster_id: String::new(), ..wire("", &[]) }, "cluster_id");
    }
}
