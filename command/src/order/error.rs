//! Why an order is refused. Texts name what and where, and are bounded whatever a client sent.

use std::{borrow::Cow, fmt, net::SocketAddr};

/// A refused order. Whoever sent it is at fault; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The request's type is unset, or was added to the protocol after this version.
    #[error("the request has no type, or one that this version does not know")]
    Unset,
    /// A query, or another request that does not change the configuration.
    #[error("{verb} does not change the configuration: it cannot be part of a change")]
    NotAMutation {
        /// The request, as in the schema.
        verb: &'static str,
    },
    /// Valid in the protocol, but accepting it would promise what this version does not do.
    #[error("{what} not served yet by this version")]
    NotServed {
        /// Subject and verb: "https listeners are".
        what: &'static str,
    },
    /// A field's value can never be accepted, whatever the state.
    #[error("{field}{value} {reason}")]
    Invalid {
        /// The field, as in the schema.
        field: &'static str,
        /// What it holds, shortened.
        value: Excerpt,
        /// A predicate: "is empty".
        reason: Cow<'static, str>,
    },
    /// There is one already.
    #[error("{noun} {key} already exists")]
    AlreadyExists {
        /// What.
        noun: Noun,
        /// Which, shortened.
        key: String,
    },
    /// There is none.
    #[error("{noun} {key} does not exist")]
    NotFound {
        /// What.
        noun: Noun,
        /// Which, shortened.
        key: String,
    },
    /// Where a backend has a Unix socket, its address is a name of its own.
    #[error(
        "backend {key} cannot be beside backend `{present}`, which has the same address: that of a backend with \
         a unix_path is its own in the cluster"
    )]
    BackendAddressTaken {
        /// The new one.
        key: String,
        /// The one that is there.
        present: super::BackendId,
    },
    /// A Unix socket has no other port that could be probed.
    #[error(
        "cluster `{cluster}` has health_check.port = {port}, and its backend `{backend}` a unix_path, which has no \
         port: leave one of them out"
    )]
    ProbePortOfUnixSocket {
        /// The cluster.
        cluster: super::ClusterId,
        /// The port that its probes go to.
        port: u16,
        /// A backend on a Unix socket.
        backend: super::BackendId,
    },
    /// The frontend exists, but it leads to another cluster than the one named.
    #[error("{noun} {key} belongs to {owner}, not to {named}")]
    OtherCluster {
        /// HTTP or HTTPS.
        noun: Noun,
        /// The frontend, shortened.
        key: String,
        /// "cluster `a`", or "no cluster".
        owner: String,
        /// Likewise.
        named: String,
    },
    /// Two TCP frontends of one address would both be for the same connections.
    #[error("tcp frontend {key} cannot be beside {present} of cluster `{owner}`: {reason}")]
    TcpFrontendClash {
        /// The new one.
        key: String,
        /// The one that is there.
        present: String,
        /// Where that leads.
        owner: super::ClusterId,
        /// What is at odds.
        reason: &'static str,
    },
    /// A listener of another kind is there: one socket speaks one protocol.
    #[error("{wanted} listener {key} cannot be added: the listener that is there speaks {present}")]
    OtherKind {
        /// Where.
        key: String,
        /// What it was to speak.
        wanted: super::ListenerKind,
        /// What the one that is there speaks.
        present: super::ListenerKind,
    },
    /// A replacement needs something to replace.
    #[error("certificate {new} cannot replace another: {address} has no certificates")]
    NothingToReplace {
        /// Where.
        address: SocketAddr,
        /// The new one.
        new: super::Fingerprint,
    },
    /// Listeners are updated by address alone, and several interfaces share this one.
    #[error(
        "several listeners share the address {address}, on different interfaces: which to update is ambiguous"
    )]
    AmbiguousListener {
        /// The shared address.
        address: SocketAddr,
    },
}

impl OrderError {
    /// A field that can never be accepted, and whose value says nothing in a text.
    pub(crate) fn plain(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field, value: Excerpt::NONE, reason: reason.into() }
    }

    /// A field that can never be accepted.
    pub(crate) fn invalid(field: &'static str, value: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field, value: Excerpt::of(value), reason: reason.into() }
    }
}

/// What an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// A named service.
    Cluster,
    /// One address serving a cluster.
    Backend,
    /// A rule of an HTTP listener.
    HttpFrontend,
    /// A rule of an HTTPS listener.
    HttpsFrontend,
    /// A rule of a TCP listener.
    TcpFrontend,
    /// A bound address; see [`super::ListenerKind`].
    Listener(super::ListenerKind),
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Backend => f.write_str("backend"),
            Self::HttpFrontend => f.write_str("http frontend"),
            Self::HttpsFrontend => f.write_str("https frontend"),
            Self::TcpFrontend => f.write_str("tcp frontend"),
            Self::Listener(kind) => write!(f, "{kind} listener"),
        }
    }
}

/// The start of a value that a client sent: enough to recognise it, never a megabyte, never a
/// control character that would act on a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Option<String>);

/// Bytes of a foreign value that an error text repeats, before escaping.
pub const EXCERPT_BYTES_MAX: usize = 120;

impl Excerpt {
    /// Nothing to show: the field's name says it all.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn of(value: &str) -> Self {
        Self(Some(excerpt(value)))
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, " {text}"),
            None => Ok(()),
        }
    }
}

/// `value` between backquotes, escaped and shortened.
pub(crate) fn excerpt(value: &str) -> String {
    if value.len() <= EXCERPT_BYTES_MAX {
        return format!("`{}`", value.escape_debug());
    }
    let mut end = EXCERPT_BYTES_MAX;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("`{}...` ({} bytes)", value[..end].escape_debug(), value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_value_is_shortened_and_escaped() {
        assert_eq!(excerpt("a\nb"), "`a\\nb`");
        let long = excerpt(&"é".repeat(500_000));
        assert!(long.len() < 2 * EXCERPT_BYTES_MAX, "{long}");
        assert!(long.ends_with("(1000000 bytes)"), "{long}");
    }

    #[test]
    fn texts_name_the_field_and_its_value() {
        let error = OrderError::invalid("hostname", "a..b", "has an empty label");
        assert_eq!(error.to_string(), "hostname `a..b` has an empty label");
    }
}
