//! Every verb of the protocol, with its name, and why it is no order if it is none.

use super::OrderError;
use crate::proto::{Request, request::RequestType};

pub(super) const UDP: &str = "UDP listeners and frontends are";

enum Refusal {
    /// Asks, or does something else than changing the configuration.
    NoMutation,
    /// Changes what this version does not have.
    NotServed(&'static str),
    /// An order: [`super::Order::from_request`] knows it.
    Order,
}

/// The request's name as in the schema; none if it has no type. Counts and audit lines use it.
#[must_use]
pub fn verb_of(request: &Request) -> Option<&'static str> {
    request.request_type.as_ref().map(|request_type| describe(request_type).0)
}

/// Why a request that is no order is none.
pub(super) fn refusal(request_type: &RequestType) -> OrderError {
    match describe(request_type) {
        (_, Refusal::NotServed(what)) => OrderError::NotServed { what },
        (verb, Refusal::NoMutation | Refusal::Order) => OrderError::NotAMutation { verb },
    }
}

fn describe(request_type: &RequestType) -> (&'static str, Refusal) {
    use Refusal::{NoMutation, NotServed, Order};
    use RequestType as R;
    match request_type {
        R::SaveState(_) => ("save_state", NoMutation),
        R::LoadState(_) => ("load_state", NoMutation),
        R::ListWorkers(_) => ("list_workers", NoMutation),
        R::ListFrontends(_) => ("list_frontends", NoMutation),
        R::ListListeners(_) => ("list_listeners", NoMutation),
        R::LaunchWorker(_) => ("launch_worker", NoMutation),
        R::UpgradeMain(_) => ("upgrade_main", NoMutation),
        R::UpgradeWorker(_) => ("upgrade_worker", NoMutation),
        R::SubscribeEvents(_) => ("subscribe_events", NoMutation),
        R::ReloadConfiguration(_) => ("reload_configuration", NoMutation),
        R::Status(_) => ("status", NoMutation),
        R::AddCluster(_) => ("add_cluster", Order),
        R::RemoveCluster(_) => ("remove_cluster", Order),
        R::AddHttpFrontend(_) => ("add_http_frontend", Order),
        R::RemoveHttpFrontend(_) => ("remove_http_frontend", Order),
        R::AddHttpsFrontend(_) => ("add_https_frontend", Order),
        R::RemoveHttpsFrontend(_) => ("remove_https_frontend", Order),
        R::AddCertificate(_) => ("add_certificate", Order),
        R::ReplaceCertificate(_) => ("replace_certificate", Order),
        R::RemoveCertificate(_) => ("remove_certificate", Order),
        R::AddTcpFrontend(_) => ("add_tcp_frontend", Order),
        R::RemoveTcpFrontend(_) => ("remove_tcp_frontend", Order),
        R::AddBackend(_) => ("add_backend", Order),
        R::RemoveBackend(_) => ("remove_backend", Order),
        R::AddHttpListener(_) => ("add_http_listener", Order),
        R::AddHttpsListener(_) => ("add_https_listener", Order),
        R::AddTcpListener(_) => ("add_tcp_listener", Order),
        R::RemoveListener(_) => ("remove_listener", Order),
        R::ActivateListener(_) => ("activate_listener", Order),
        R::DeactivateListener(_) => ("deactivate_listener", Order),
        R::QueryClusterById(_) => ("query_cluster_by_id", NoMutation),
        R::QueryClustersByDomain(_) => ("query_clusters_by_domain", NoMutation),
        R::QueryClustersHashes(_) => ("query_clusters_hashes", NoMutation),
        R::QueryMetrics(_) => ("query_metrics", NoMutation),
        R::SoftStop(_) => ("soft_stop", NoMutation),
        R::HardStop(_) => ("hard_stop", NoMutation),
        R::ConfigureMetrics(_) => ("configure_metrics", NoMutation),
        R::Logging(_) => ("logging", NoMutation),
        R::ReopenLogs(_) => ("reopen_logs", NoMutation),
        R::ReturnListenSockets(_) => ("return_listen_sockets", NoMutation),
        R::QueryCertificatesFromTheState(_) => ("query_certificates_from_the_state", NoMutation),
        R::QueryCertificatesFromWorkers(_) => ("query_certificates_from_workers", NoMutation),
        R::CountRequests(_) => ("count_requests", NoMutation),
        R::UpdateHttpListener(_) => ("update_http_listener", Order),
        R::UpdateHttpsListener(_) => ("update_https_listener", Order),
        R::UpdateTcpListener(_) => ("update_tcp_listener", Order),
        R::SetMaxConnectionsPerIp(_) => ("set_max_connections_per_ip", Order),
        R::QueryMaxConnectionsPerIp(_) => ("query_max_connections_per_ip", NoMutation),
        R::SetHealthCheck(_) => ("set_health_check", Order),
        R::RemoveHealthCheck(_) => ("remove_health_check", Order),
        R::QueryHealthChecks(_) => ("query_health_checks", NoMutation),
        R::SetMetricDetail(_) => ("set_metric_detail", NoMutation),
        R::AddUdpListener(_) => ("add_udp_listener", NotServed(UDP)),
        R::UpdateUdpListener(_) => ("update_udp_listener", NotServed(UDP)),
        R::AddUdpFrontend(_) => ("add_udp_frontend", NotServed(UDP)),
        R::RemoveUdpFrontend(_) => ("remove_udp_frontend", NotServed(UDP)),
        R::SetMaxConnectionsPerSubnet(_) => ("set_max_connections_per_subnet", Order),
        R::QueryMaxConnectionsPerSubnet(_) => ("query_max_connections_per_subnet", NoMutation),
        R::SetMaxConnectionAttempts(_) => ("set_max_connection_attempts", Order),
        R::AddHttpsListenerWithClientAuth(_) => ("add_https_listener_with_client_auth", Order),
        R::UpdateHttpsListenerWithClientAuth(_) => ("update_https_listener_with_client_auth", Order),
        R::CloseSessions(_) => ("close_sessions", NoMutation),
        R::AddHttpFrontendWithHeaderPredicates(_) => ("add_http_frontend_with_header_predicates", Order),
        R::RemoveHttpFrontendWithHeaderPredicates(_) => {
            ("remove_http_frontend_with_header_predicates", Order)
        }
        R::AddHttpsFrontendWithHeaderPredicates(_) => ("add_https_frontend_with_header_predicates", Order),
        R::RemoveHttpsFrontendWithHeaderPredicates(_) => {
            ("remove_https_frontend_with_header_predicates", Order)
        }
        R::AddHttpFrontendWithSilentClose(_) => ("add_http_frontend_with_silent_close", Order),
        R::AddHttpsFrontendWithSilentClose(_) => ("add_https_frontend_with_silent_close", Order),
        R::AddUnixBackend(_) => ("add_unix_backend", Order),
        R::SetProtectedHealthCheck(_) => ("set_protected_health_check", NoMutation),
        R::QueryProtectedHealthCheckSupport(_) => ("query_protected_health_check_support", NoMutation),
        R::ProtectedHealthCheckOrder(_) => ("protected_health_check_order", NoMutation),
        R::Transaction(_) => ("transaction", NoMutation),
        R::QueryRevision(_) => ("query_revision", NoMutation),
        R::WaitDrained(_) => ("wait_drained", NoMutation),
    }
}
