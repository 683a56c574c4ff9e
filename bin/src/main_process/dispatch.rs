//! What a request asks for, and of whom. Pure: the supervisor acts on it.

use std::path::PathBuf;

use kakehi_command::order::{ConnectionLimit, Order, OrderError, SessionsOf, verb_of};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    FrontendFilters, MetricsConfiguration, QueryCertificatesFilters, QueryClusterByDomain,
    QueryMetricsOptions, Request, SetMetricDetail, SetProtectedHealthCheck, WaitDrained,
};

use super::gather::WorkerId;

/// What is to be done for a request.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// One change.
    Change(Order),
    /// Several, all or none.
    Transaction {
        /// In the order in which they are applied.
        orders: Vec<Order>,
        /// Only at this revision.
        if_revision: Option<u64>,
    },
    /// A health check with values of secret headers.
    ProtectedHealthCheck(Box<SetProtectedHealthCheck>),
    /// Write the state to a file.
    SaveState(PathBuf),
    /// Add a state file to the state.
    LoadState(PathBuf),
    /// Make the state equal to a configuration file; `None`: the one the proxy was started with.
    Reload(Option<PathBuf>),
    /// Stop, finishing what is open or not.
    Stop {
        /// Cut what is open.
        hard: bool,
    },
    /// Change what is logged.
    Logging(String),
    /// Open the logs anew.
    ReopenLogs,
    /// Get events.
    Subscribe,
    /// Hear when something has drained.
    WaitDrained(WaitDrained),
    /// Put a successor in the place of a worker.
    UpgradeWorker(WorkerId),
    /// Put the program that is on disk now in the place of main.
    UpgradeMain,
    /// Lease a level of detail of metrics.
    MetricDetail(SetMetricDetail),
    /// Ask main alone.
    Ask(Question),
    /// Ask the workers, too.
    AskWorkers(FanOut),
}

/// A question that main answers at once.
#[derive(Debug, PartialEq)]
pub(super) enum Question {
    /// Processes, as main knows them.
    Workers,
    /// Frontends that pass the filters.
    Frontends(FrontendFilters),
    /// All listeners.
    Listeners,
    /// Requests so far, by verb.
    RequestCounts,
    /// Certificates that pass the filters.
    Certificates(QueryCertificatesFilters),
    /// The state's revision.
    Revision,
    /// A limit of the whole proxy.
    ConnectionLimit(ConnectionLimit),
    /// Health checks, of one cluster or all, and what they found out.
    HealthChecks(Option<String>),
    /// Whether health checks may have secret headers.
    ProtectedHealthChecks,
}

/// A question that the workers answer.
#[derive(Debug, PartialEq)]
pub(super) enum FanOut {
    /// Who runs.
    Status,
    /// One cluster.
    ClusterById(String),
    /// The clusters behind a host.
    ClustersByDomain(QueryClusterByDomain),
    /// A hash per cluster.
    ClusterHashes,
    /// Certificates that pass the filters.
    Certificates,
    /// Numbers.
    Metrics(QueryMetricsOptions),
    /// Begin numbers anew, end or begin those of clusters and backends.
    ConfigureMetrics(MetricsConfiguration),
    /// End sessions.
    CloseSessions(SessionsOf),
}

/// Why a request is answered with FAILURE right away. Shown to the client.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// The protocol has it, this version does not.
    #[error("{0} is not served yet by this version")]
    NotServed(&'static str),
    /// Sōzu has no answer to it at all.
    #[error(
        "launch_worker: there are as many workers as worker_count says, and a lost one is replaced by itself; \
         upgrade_worker replaces one"
    )]
    LaunchWorker,
    /// Nothing for a client to ask for.
    #[error("{0} is between the main process and its workers, and refused on the command socket")]
    Internal(&'static str),
    /// It cannot be what it says.
    #[error("could not apply the request: {0}")]
    Order(#[from] OrderError),
    /// A transaction's request cannot be.
    #[error("transaction refused, nothing has changed: {}", list(.0))]
    Transaction(Vec<(usize, OrderError)>),
    /// A word of a later version.
    #[error("configure_metrics: neither ENABLED nor DISABLED nor CLEAR")]
    MetricsConfiguration,
    /// A file has to be named.
    #[error("{0} needs the path of a file")]
    NoPath(&'static str),
}

/// Refused requests of a transaction that are named; the rest are counted.
const CULPRITS_NAMED_MAX: usize = 20;

fn list(culprits: &[(usize, OrderError)]) -> String {
    let named = culprits.iter().take(CULPRITS_NAMED_MAX);
    let mut texts: Vec<String> = named.map(|(index, error)| format!("order {index}: {error}")).collect();
    if let Some(more) = culprits.len().checked_sub(CULPRITS_NAMED_MAX).filter(|more| *more > 0) {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}

/// What to do for `request`.
pub(super) fn route(request: &Request) -> Result<Route, Refusal> {
    use RequestType as R;
    let Some(request_type) = &request.request_type else { return Err(OrderError::Unset.into()) };
    let route = match request_type {
        R::SaveState(path) => Route::SaveState(file("save_state", path)?),
        R::LoadState(path) => Route::LoadState(file("load_state", path)?),
        R::ReloadConfiguration(path) if path.is_empty() => Route::Reload(None),
        R::ReloadConfiguration(path) => Route::Reload(Some(path.into())),
        R::ListWorkers(_) => Route::Ask(Question::Workers),
        R::ListFrontends(filters) => Route::Ask(Question::Frontends(filters.clone())),
        R::ListListeners(_) => Route::Ask(Question::Listeners),
        R::CountRequests(_) => Route::Ask(Question::RequestCounts),
        R::QueryCertificatesFromTheState(filters) => Route::Ask(Question::Certificates(filters.clone())),
        R::QueryCertificatesFromWorkers(_) => Route::AskWorkers(FanOut::Certificates),
        R::QueryRevision(_) => Route::Ask(Question::Revision),
        R::QueryMaxConnectionsPerIp(_) => Route::Ask(Question::ConnectionLimit(ConnectionLimit::PerSource)),
        R::QueryMaxConnectionsPerSubnet(_) => {
            Route::Ask(Question::ConnectionLimit(ConnectionLimit::PerSubnet))
        }
        R::QueryHealthChecks(query) => Route::Ask(Question::HealthChecks(query.cluster_id.clone())),
        R::QueryProtectedHealthCheckSupport(_) => Route::Ask(Question::ProtectedHealthChecks),
        R::SetProtectedHealthCheck(wire) => Route::ProtectedHealthCheck(Box::new(wire.clone())),
        R::Status(_) => Route::AskWorkers(FanOut::Status),
        R::QueryClusterById(id) => Route::AskWorkers(FanOut::ClusterById(id.clone())),
        R::QueryClustersByDomain(query) => Route::AskWorkers(FanOut::ClustersByDomain(query.clone())),
        R::QueryClustersHashes(_) => Route::AskWorkers(FanOut::ClusterHashes),
        R::QueryMetrics(options) => Route::AskWorkers(FanOut::Metrics(options.clone())),
        R::ConfigureMetrics(change) => {
            let change =
                MetricsConfiguration::try_from(*change).map_err(|_| Refusal::MetricsConfiguration)?;
            Route::AskWorkers(FanOut::ConfigureMetrics(change))
        }
        R::SetMetricDetail(asked) => Route::MetricDetail(asked.clone()),
        R::CloseSessions(wire) => Route::AskWorkers(FanOut::CloseSessions(SessionsOf::from_wire(wire)?)),
        R::SoftStop(_) => Route::Stop { hard: false },
        R::HardStop(_) => Route::Stop { hard: true },
        R::Logging(filter) => Route::Logging(filter.clone()),
        R::ReopenLogs(_) => Route::ReopenLogs,
        R::SubscribeEvents(_) => Route::Subscribe,
        R::UpgradeWorker(id) => Route::UpgradeWorker(WorkerId(*id)),
        R::UpgradeMain(_) => Route::UpgradeMain,
        R::WaitDrained(asked) => Route::WaitDrained(asked.clone()),
        R::LaunchWorker(_) => return Err(Refusal::LaunchWorker),
        R::ReturnListenSockets(_) | R::ProtectedHealthCheckOrder(_) => {
            return Err(Refusal::Internal(verb_of(request).unwrap_or("the request")));
        }
        R::Transaction(transaction) => Route::Transaction {
            orders: orders(&transaction.requests)?,
            if_revision: transaction.if_revision,
        },
        _ => match Order::from_request(request) {
            Ok(order) => Route::Change(order),
            // Known, and no change: something that later versions will serve.
            Err(OrderError::NotAMutation { .. }) => {
                return Err(Refusal::NotServed(verb_of(request).unwrap_or("the request")));
            }
            Err(error) => return Err(error.into()),
        },
    };
    Ok(route)
}

fn file(verb: &'static str, path: &str) -> Result<PathBuf, Refusal> {
    if path.is_empty() { Err(Refusal::NoPath(verb)) } else { Ok(path.into()) }
}

/// Checks every request, so that one answer names all that cannot be.
fn orders(requests: &[Request]) -> Result<Vec<Order>, Refusal> {
    let (mut orders, mut culprits) = (Vec::with_capacity(requests.len()), Vec::new());
    for (index, request) in requests.iter().enumerate() {
        match Order::from_request(request) {
            Ok(order) => orders.push(order),
            Err(error) => culprits.push((index, error)),
        }
    }
    if culprits.is_empty() { Ok(orders) } else { Err(Refusal::Transaction(culprits)) }
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::{
        Cluster, ListWorkers, ProtectedHealthCheckOrder, QueryRevision, RequestUdpFrontend,
        ReturnListenSockets, SoftStop, Status, Transaction, UpgradeMain,
    };

    use super::*;

    fn request(request_type: RequestType) -> Request {
        Request { request_type: Some(request_type) }
    }

    fn add(cluster_id: &str) -> Request {
        request(RequestType::AddCluster(Cluster { cluster_id: cluster_id.to_owned(), ..Default::default() }))
    }

    fn check(request_type: RequestType, expected: Route) {
        assert_eq!(route(&request(request_type)), Ok(expected));
    }

    fn check_refused(request: &Request, expected: &str) {
        let error = route(request).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }

    #[test]
    fn questions_go_where_they_are_answered() {
        check(RequestType::ListWorkers(ListWorkers {}), Route::Ask(Question::Workers));
        check(RequestType::QueryRevision(QueryRevision {}), Route::Ask(Question::Revision));
        check(RequestType::Status(Status {}), Route::AskWorkers(FanOut::Status));
        let by_id = Route::AskWorkers(FanOut::ClusterById("a".to_owned()));
        check(RequestType::QueryClusterById("a".to_owned()), by_id);
    }

    #[test]
    fn commands_are_told_apart() {
        check(RequestType::SoftStop(SoftStop {}), Route::Stop { hard: false });
        check(RequestType::UpgradeMain(UpgradeMain {}), Route::UpgradeMain);
        check(RequestType::UpgradeWorker(3), Route::UpgradeWorker(WorkerId(3)));
        check(RequestType::ReloadConfiguration(String::new()), Route::Reload(None));
        check(RequestType::ReloadConfiguration("k.toml".to_owned()), Route::Reload(Some("k.toml".into())));
        check(RequestType::SaveState("s".to_owned()), Route::SaveState("s".into()));
        assert!(matches!(route(&add("a")), Ok(Route::Change(Order::AddCluster(_)))));
    }

    #[test]
    fn what_is_not_served_says_so_by_name() {
        let udp = request(RequestType::AddUdpFrontend(RequestUdpFrontend::default()));
        check_refused(&udp, "not served yet by this version");
    }

    #[test]
    fn what_no_client_can_ask_for_says_why() {
        let sockets = request(RequestType::ReturnListenSockets(ReturnListenSockets {}));
        check_refused(&sockets, "return_listen_sockets is between the main process and its workers");
        let order = request(RequestType::ProtectedHealthCheckOrder(ProtectedHealthCheckOrder::default()));
        check_refused(&order, "protected_health_check_order is between");
        check_refused(&request(RequestType::LaunchWorker("x".to_owned())), "as many workers as worker_count");
    }

    #[test]
    fn nothing_is_met_with_silence() {
        check_refused(&Request { request_type: None }, "no type");
        check_refused(&add(""), "cluster_id");
        check_refused(&request(RequestType::SaveState(String::new())), "needs the path");
    }

    #[test]
    fn a_transaction_names_every_culprit() {
        let requests = vec![add("a"), request(RequestType::Status(Status {})), add("b"), Request::default()];
        let transaction = request(RequestType::Transaction(Transaction { requests, if_revision: Some(3) }));
        check_refused(&transaction, "order 1: status does not change");
        check_refused(&transaction, "order 3: the request has no type");
    }

    #[test]
    fn a_transaction_keeps_its_order() {
        let requests = vec![add("b"), add("a")];
        let transaction =
            request(RequestType::Transaction(Transaction { requests: requests.clone(), if_revision: None }));
        let Ok(Route::Transaction { orders, if_revision: None }) = route(&transaction) else {
            panic!("a transaction")
        };
        let back: Vec<Request> = orders.iter().map(Order::to_request).collect();
        assert_eq!(back, requests);
    }
}
