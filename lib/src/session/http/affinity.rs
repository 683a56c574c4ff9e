//! What of a request's head binds its client to a backend: its sticky cookie, and the key of those algorithms that
//! hash. Only hashes are kept: the head is gone when the choice is made.

use kakehi_command::order::{Affinity, Backend, Cluster, HttpListener};

use crate::balancing::hash;
use crate::protocol::h1::head::RequestHead;
use crate::protocol::http::cookie;

/// The sticky cookie of a request to a cluster that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sticky {
    /// The hash of its value; none: the client sent none.
    pub(super) cookie: Option<u64>,
}

impl Sticky {
    /// Whether the client knows that it is bound to this backend.
    pub(super) fn names(self, value: &str) -> bool {
        self.cookie == Some(hash::bytes(value.as_bytes()))
    }
}

/// The hash of what the cluster goes by; none: the client's address.
pub(super) fn key(head: &RequestHead<'_, '_>, cluster: &Cluster) -> Option<u64> {
    let value = match cluster.affinity() {
        Affinity::Source => None,
        Affinity::Header(name) => head.field(name),
        Affinity::Cookie(name) => cookie::find(cookies(head), name.as_bytes()),
    };
    value.filter(|value| !value.is_empty()).map(hash::bytes)
}

/// The sticky cookie, if the cluster has one.
pub(super) fn sticky(
    head: &RequestHead<'_, '_>,
    cluster: &Cluster,
    listener: &HttpListener,
) -> Option<Sticky> {
    let find = || cookie::find(cookies(head), listener.sticky_name().as_bytes()).map(hash::bytes);
    cluster.sticky_session().then(|| Sticky { cookie: find() })
}

/// The cookie to be set, if the client does not have it.
pub(super) fn owed<'a>(
    sticky: Option<Sticky>,
    backend: Option<&'a Backend>,
) -> Option<std::borrow::Cow<'a, str>> {
    let (sticky, value) = (sticky?, backend?.sticky_value());
    (!sticky.names(&value)).then_some(value)
}

fn cookies<'b>(head: &RequestHead<'_, 'b>) -> impl Iterator<Item = &'b [u8]> {
    head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"cookie")).map(|field| field.value)
}
