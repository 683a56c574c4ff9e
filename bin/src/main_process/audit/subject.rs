//! What a request is about, by its names: an object, a file, a number, never what an object holds.

use std::net::SocketAddr;

use kakehi_command::order::{fingerprint_of, verb_of};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{self, Request, Transaction};

/// Orders of a transaction that are named; the rest are counted.
const NAMED_MAX: usize = 8;

/// A name is told as far as this, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Whether a request changes something, or is to.
pub(in super::super) fn is_audited(request: &Request) -> bool {
    use RequestType as R;
    match &request.request_type {
        Some(
            R::SaveState(_)
            | R::LoadState(_)
            | R::ReloadConfiguration(_)
            | R::UpgradeMain(_)
            | R::UpgradeWorker(_)
            | R::SoftStop(_)
            | R::HardStop(_)
            | R::Logging(_)
            | R::ConfigureMetrics(_)
            | R::CloseSessions(_)
            | R::SetProtectedHealthCheck(_)
            | R::Transaction(_),
        ) => true,
        Some(_) => verb_of(request).is_some_and(is_order),
        None => false,
    }
}

/// Whether a request of this name changes the state. Also one that is wrong is meant to.
fn is_order(verb: &str) -> bool {
    let verbs = ["add_", "remove_", "replace_", "update_", "set_", "activate_", "deactivate_"];
    verbs.iter().any(|begin| verb.starts_with(begin))
}

/// What it is about.
pub(super) fn of(request: &Request) -> String {
    use RequestType as R;
    let text = match &request.request_type {
        Some(R::SaveState(path) | R::LoadState(path)) => format!("file {path}"),
        Some(R::ReloadConfiguration(path)) if path.is_empty() => "the configuration file".to_owned(),
        Some(R::ReloadConfiguration(path)) => format!("file {path}"),
        Some(R::UpgradeWorker(id)) => format!("worker {id}"),
        Some(R::Logging(filter)) => format!("filter {filter}"),
        Some(R::Transaction(transaction)) => return of_transaction(transaction),
        Some(R::UpgradeMain(_) | R::SoftStop(_) | R::HardStop(_)) => "the proxy".to_owned(),
        Some(request) => of_object(request),
        None => "-".to_owned(),
    };
    shortened(text)
}

fn of_transaction(transaction: &Transaction) -> String {
    let named = transaction.requests.iter().take(NAMED_MAX).map(|request| {
        let verb = verb_of(request).unwrap_or("unknown");
        format!("{verb} {}", of(request))
    });
    let named = named.collect::<Vec<_>>().join("; ");
    match transaction.requests.len() {
        count if count > NAMED_MAX => format!("{count} orders: {named}; and {} more", count - NAMED_MAX),
        count => format!("{count} orders: {named}"),
    }
}

/// By the fields that name it.
fn of_object(request: &RequestType) -> String {
    use RequestType as R;
    match request {
        R::AddCluster(it) => format!("cluster {}", it.cluster_id),
        R::RemoveCluster(id) | R::RemoveHealthCheck(id) => format!("cluster {id}"),
        R::CloseSessions(it) => format!("cluster {}", it.cluster_id),
        R::SetHealthCheck(it) => format!("cluster {}", it.cluster_id),
        R::SetProtectedHealthCheck(it) => format!("cluster {}", it.cluster_id),
        R::AddBackend(it) => backend(&it.cluster_id, &it.backend_id, &it.address),
        R::RemoveBackend(it) => backend(&it.cluster_id, &it.backend_id, &it.address),
        R::AddHttpFrontend(it)
        | R::RemoveHttpFrontend(it)
        | R::AddHttpsFrontend(it)
        | R::RemoveHttpsFrontend(it) => {
            let cluster = it.cluster_id.as_deref().unwrap_or("-");
            format!("frontend {}{} at {} of cluster {cluster}", it.hostname, it.path.value, at(&it.address))
        }
        R::AddTcpFrontend(it) | R::RemoveTcpFrontend(it) => {
            let name = it.sni.as_deref().unwrap_or("*");
            format!("frontend {name} at {} of cluster {}", at(&it.address), it.cluster_id)
        }
        R::AddCertificate(it) => {
            format!("certificate {} at {}", fingerprint(&it.certificate), at(&it.address))
        }
        R::ReplaceCertificate(it) => {
            let (new, old) = (fingerprint(&it.new_certificate), &it.old_fingerprint);
            format!("certificate {new} at {}, in the place of {old}", at(&it.address))
        }
        R::RemoveCertificate(it) => format!("certificate {} at {}", it.fingerprint, at(&it.address)),
        R::AddHttpListener(it) => format!("HTTP listener {}", at(&it.address)),
        R::AddHttpsListener(it) => format!("HTTPS listener {}", at(&it.address)),
        R::AddTcpListener(it) => format!("TCP listener {}", at(&it.address)),
        R::UpdateHttpListener(it) => format!("HTTP listener {}", at(&it.address)),
        R::UpdateHttpsListener(it) => format!("HTTPS listener {}", at(&it.address)),
        R::UpdateTcpListener(it) => format!("TCP listener {}", at(&it.address)),
        R::RemoveListener(it) => format!("listener {}", at(&it.address)),
        R::ActivateListener(it) => format!("listener {}", at(&it.address)),
        R::DeactivateListener(it) => format!("listener {}", at(&it.address)),
        R::SetMaxConnectionsPerIp(it) => format!("{it:?}"),
        R::SetMaxConnectionsPerSubnet(it) => format!("{it:?}"),
        R::SetMaxConnectionAttempts(it) => format!("{it:?}"),
        _ => "-".to_owned(),
    }
}

fn backend(cluster: &str, backend: &str, address: &proto::SocketAddress) -> String {
    format!("backend {backend} of cluster {cluster} at {}", at(address))
}

fn at(address: &proto::SocketAddress) -> String {
    SocketAddr::try_from(address).map_or_else(|_| "-".to_owned(), |address| address.to_string())
}

fn fingerprint(pair: &proto::CertificateAndKey) -> String {
    fingerprint_of(&pair.certificate).map_or_else(|_| "-".to_owned(), |it| it.to_string())
}

fn shortened(mut text: String) -> String {
    if text.len() > NAME_BYTES_MAX {
        text.truncate(boundary(&text, NAME_BYTES_MAX));
        text.push_str("...");
    }
    text
}

/// The last boundary between characters that is not behind so many bytes.
pub(super) fn boundary(text: &str, bytes: usize) -> usize {
    (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::{Cluster, HardStop, Status};

    use super::*;

    fn add(id: &str) -> Request {
        let cluster = Cluster { cluster_id: id.to_owned(), ..Default::default() };
        Request { request_type: Some(RequestType::AddCluster(cluster)) }
    }

    #[test]
    fn what_changes_something_is_told_apart_from_questions() {
        assert!(is_audited(&add("web")));
        assert!(is_audited(&add("")), "wrong, and yet meant to change something");
        assert!(is_audited(&Request { request_type: Some(RequestType::HardStop(HardStop {})) }));
        assert!(!is_audited(&Request { request_type: Some(RequestType::Status(Status {})) }));
        assert!(!is_audited(&Request { request_type: None }));
    }

    #[test]
    fn objects_are_named_and_many_are_counted() {
        assert_eq!(of(&add("web")), "cluster web");
        let requests: Vec<Request> = (0..20).map(|n| add(&format!("c{n}"))).collect();
        let transaction = Transaction { requests, if_revision: None };
        let text = of(&Request { request_type: Some(RequestType::Transaction(transaction)) });
        assert!(text.starts_with("20 orders: add_cluster cluster c0; add_cluster cluster c1"), "{text}");
        assert!(text.ends_with("; and 12 more"), "{text}");
        let long = of(&add(&"x".repeat(4000)));
        assert!(long.len() < 300, "{long}");
    }
}
