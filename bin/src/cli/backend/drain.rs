//! `backend drain` and `undrain`: one setting of a backend, the others as they are.

use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{
    AddBackend, ClusterInformations, QueryRevision, Request, Transaction, WaitDrained,
};

use super::super::CliError;
use super::super::client::{Patience, Proxy};
use super::super::wait::Wait;
use super::Key;

/// Nothing new goes to the backend from now on.
///
/// # Errors
/// There is no such backend, or the proxy refuses; or connections are left when the wait is over.
pub(super) fn drain(proxy: &mut Proxy, key: Key, wait: Wait) -> Result<(), CliError> {
    let asked = WaitDrained {
        cluster_id: Some(key.id.clone()),
        backend_id: Some(key.backend_id.clone()),
        address: Some(key.address.into()),
        ..WaitDrained::default()
    };
    let request = set_draining(proxy, key, true)?;
    if !wait.is_asked() {
        return proxy.tell(request);
    }
    proxy.ask(request, Patience::AsConfigured)?;
    wait.tell_when_drained(proxy, asked)
}

/// The backend is used again.
///
/// # Errors
/// There is no such backend, or the proxy refuses.
pub(super) fn undrain(proxy: &mut Proxy, key: Key) -> Result<(), CliError> {
    let request = set_draining(proxy, key, false)?;
    proxy.tell(request)
}

/// Reads the backend; what adds it again with the setting is refused if the state has changed in between.
fn set_draining(proxy: &mut Proxy, key: Key, draining: bool) -> Result<RequestType, CliError> {
    let Some(ContentType::Revision(before)) =
        proxy.ask(RequestType::QueryRevision(QueryRevision {}), Patience::AsConfigured)?.content
    else {
        return Err(CliError::Refused("the proxy does not tell its revision".to_owned()));
    };
    let answer = proxy.ask(RequestType::QueryClusterById(key.id.clone()), Patience::AsConfigured)?;
    let Some(backend) = find(answer.content, &key) else {
        let Key { id, backend_id, address } = key;
        let text = format!("cluster `{id}` has no backend `{backend_id}` at {address}");
        return Err(CliError::Refused(text));
    };
    let backend = AddBackend { draining: draining.then_some(true), ..backend };
    Ok(RequestType::Transaction(Transaction {
        requests: vec![Request { request_type: Some(RequestType::AddBackend(backend)) }],
        if_revision: Some(before.revision),
    }))
}

/// The backend, in what all workers say of its cluster.
fn find(content: Option<ContentType>, key: &Key) -> Option<AddBackend> {
    let clusters: Vec<ClusterInformations> = match content? {
        ContentType::Clusters(clusters) => vec![clusters],
        ContentType::WorkerResponses(workers) => {
            let contents = workers.map.into_values().filter_map(|content| content.content_type);
            contents
                .filter_map(|content| match content {
                    ContentType::Clusters(clusters) => Some(clusters),
                    _ => None,
                })
                .collect()
        }
        _ => return None,
    };
    let is_it = |backend: &AddBackend| {
        let address = SocketAddr::try_from(&backend.address);
        backend.backend_id == key.backend_id && address.is_ok_and(|address| address == key.address)
    };
    clusters.into_iter().flat_map(|it| it.vec).flat_map(|it| it.backends).find(is_it)
}
