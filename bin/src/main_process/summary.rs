//! What orders are about, in words: for who reloads a configuration. Names of objects, never
//! values.

use std::collections::BTreeMap;

use kakehi_command::order::{ConnectionLimit, ListenerKind, Order};
use kakehi_command::state::ConfigState;

/// Names that are written out for each kind of change; the rest are counted.
const NAMES_MAX: usize = 8;

/// Bytes of one name.
const NAME_BYTES_MAX: usize = 80;

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Added,
    Changed,
    Removed,
}

/// The difference that `orders` make to `before`: counts, and the first names of each kind.
pub(super) fn difference(before: &ConfigState, orders: &[Order]) -> String {
    let mut deeds: BTreeMap<(&'static str, String), Deed> = BTreeMap::new();
    for order in orders {
        let deed = deed_of(before, order);
        let seen = deeds.entry(object_of(order)).or_insert(deed);
        *seen = match (*seen, deed) {
            (Deed::Removed, Deed::Added) | (Deed::Changed, Deed::Added) => Deed::Changed,
            (Deed::Added, Deed::Changed) => Deed::Added,
            (_, Deed::Removed) => Deed::Removed,
            (seen, Deed::Changed | Deed::Added) => seen,
        };
    }
    let mut groups: BTreeMap<(&'static str, Deed), Vec<String>> = BTreeMap::new();
    for ((noun, name), deed) in deeds {
        groups.entry((noun, deed)).or_default().push(name);
    }
    let texts = groups.into_iter().map(|((noun, deed), names)| {
        let word = match deed {
            Deed::Added => "added",
            Deed::Changed => "changed",
            Deed::Removed => "removed",
        };
        let count = names.len();
        let plural = if count == 1 { "" } else { "s" };
        let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| short(name)).collect();
        let rest = if count > NAMES_MAX { ", ..." } else { "" };
        format!("{count} {noun}{plural} {word} ({}{rest})", shown.join(", "))
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn deed_of(before: &ConfigState, order: &Order) -> Deed {
    match order {
        Order::AddCluster(cluster) if before.cluster(cluster.id().as_str()).is_some() => Deed::Changed,
        Order::AddBackend(backend) if before.backend(&backend.key()).is_some() => Deed::Changed,
        Order::AddHttpListener(_)
        | Order::AddTcpListener(_)
        | Order::AddCluster(_)
        | Order::AddBackend(_)
        | Order::AddHttpFrontend(_)
        | Order::AddTcpFrontend(_)
        | Order::AddCertificate(_)
        | Order::ReplaceCertificate { .. } => Deed::Added,
        Order::RemoveListener { .. }
        | Order::RemoveCluster(_)
        | Order::RemoveHttpFrontend(_)
        | Order::RemoveTcpFrontend(_)
        | Order::RemoveCertificate(_)
        | Order::RemoveBackend(_) => Deed::Removed,
        Order::UpdateHttpListener(_)
        | Order::UpdateTcpListener(_)
        | Order::ActivateListener { .. }
        | Order::DeactivateListener { .. }
        | Order::SetHealthCheck { .. }
        | Order::RemoveHealthCheck(_)
        | Order::SetConnectionLimit { .. }
        | Order::SetConnectionAttempts(_) => Deed::Changed,
    }
}

/// A noun and a name.
fn object_of(order: &Order) -> (&'static str, String) {
    const LISTENER: &str = "listener";
    match order {
        Order::AddHttpListener(listener) => (LISTENER, listener.key().to_string()),
        Order::AddTcpListener(listener) => (LISTENER, listener.key().to_string()),
        Order::UpdateHttpListener(patch) => (LISTENER, patch.address().to_string()),
        Order::UpdateTcpListener(patch) => (LISTENER, patch.address().to_string()),
        Order::RemoveListener { key, .. }
        | Order::ActivateListener { key, .. }
        | Order::DeactivateListener { key, .. } => (LISTENER, key.to_string()),
        Order::AddCluster(cluster) => ("cluster", cluster.id().to_string()),
        Order::RemoveCluster(id) => ("cluster", id.to_string()),
        Order::SetHealthCheck { cluster, .. } => ("health check", cluster.to_string()),
        Order::RemoveHealthCheck(cluster) => ("health check", cluster.to_string()),
        Order::AddHttpFrontend(frontend) | Order::RemoveHttpFrontend(frontend) => {
            let kind = if frontend.is_https() { ListenerKind::Https } else { ListenerKind::Http };
            ("frontend", format!("{kind} {}", frontend.identity()))
        }
        Order::AddTcpFrontend(frontend) | Order::RemoveTcpFrontend(frontend) => {
            ("frontend", format!("tcp {}", frontend.identity()))
        }
        Order::AddCertificate(added) => ("certificate", added.key_in_state().to_string()),
        Order::RemoveCertificate(key) => ("certificate", key.to_string()),
        Order::ReplaceCertificate { new, .. } => ("certificate", new.key_in_state().to_string()),
        Order::AddBackend(backend) => ("backend", backend.key().to_string()),
        Order::RemoveBackend(key) => ("backend", key.to_string()),
        Order::SetConnectionLimit { limit, .. } => {
            let name = match limit {
                ConnectionLimit::PerSource => "per source",
                ConnectionLimit::PerSubnet => "per subnet",
            };
            ("connection limit", name.to_owned())
        }
        Order::SetConnectionAttempts(_) => ("limit", "connection attempts".to_owned()),
    }
}

/// A name, shortened and escaped.
fn short(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_BYTES_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_BYTES_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::request::RequestType;
    use kakehi_command::proto::{Cluster, Request};

    use super::*;

    fn order(request_type: RequestType) -> Order {
        Order::from_request(&Request { request_type: Some(request_type) }).unwrap()
    }

    fn add(id: &str, https_redirect: bool) -> Order {
        order(RequestType::AddCluster(Cluster {
            cluster_id: id.to_owned(),
            https_redirect,
            ..Default::default()
        }))
    }

    #[test]
    fn a_difference_tells_what_is_added_changed_and_removed() {
        let mut before = ConfigState::default();
        before.apply(&add("a", false)).unwrap();
        before.apply(&add("b", false)).unwrap();
        let orders = [
            order(RequestType::RemoveCluster("b".to_owned())),
            add("a", true),
            add("c", false),
            add("d", false),
        ];
        assert_eq!(
            difference(&before, &orders),
            "2 clusters added (c, d), 1 cluster changed (a), 1 cluster removed (b)"
        );
    }

    #[test]
    fn a_difference_is_bounded() {
        let orders: Vec<Order> = (0..10_000).map(|n| add(&format!("cluster-{n:05}"), false)).collect();
        let text = difference(&ConfigState::default(), &orders);
        assert!(
            text.starts_with("10000 clusters added (cluster-00000, ") && text.ends_with(", ...)"),
            "{text}"
        );
        assert!(text.len() < 300, "{text}");
    }
}
