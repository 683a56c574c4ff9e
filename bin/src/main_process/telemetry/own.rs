//! What the main process itself counts: the other half of the declared table, whose first is
//! [`kakehi_lib::metrics::Metric`].

use kakehi_lib::metrics::Kind;

/// A number of the main process.
#[derive(Debug)]
pub(crate) struct Own {
    /// As `metrics get` calls it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// A sentence for those who read it.
    pub(crate) help: &'static str,
}

const fn own(name: &'static str, kind: Kind, help: &'static str) -> Own {
    Own { name, kind, help }
}

use Kind::{Count, Gauge};

/// All of them.
#[rustfmt::skip]
pub(crate) static ALL: &[Own] = &[
    own("configuration.backends", Gauge, "Backends that are configured."),
    own("configuration.clusters", Gauge, "Clusters that are configured."),
    own("configuration.certificates", Gauge, "Certificates that are configured."),
    own("configuration.frontends", Gauge, "Frontends that are configured."),
    own("configuration.draining", Gauge, "Backends and listeners that finish what they carry."),
    own("process.uptime_seconds", Gauge, "Seconds since the main process was started."),
    own("logs.dropped", Count, "Lines of the main process' error log that were lost: more than max_log_rate, or the target did not take them."),
    own("command.clients", Gauge, "Connections of the command socket."),
    own("command.clients_refused", Count, "Connections of the command socket refused: there were max_command_clients."),
    own("command.clients_dropped", Count, "Connections of the command socket closed because their client read nothing, or for an error."),
    own("command.frames_refused", Count, "Messages to the command socket that are no request, or larger than max_command_buffer_size."),
    own("tls.cert.min_expires_at_seconds", Gauge, "When the first of all certificates expires, in seconds since 1970."),
    own("cluster.total_backends", Gauge, "Backends that are configured, as health has it."),
    own("cluster.available_backends", Gauge, "Backends that nothing is known against."),
    own("cluster.no_available_backends", Count, "Times that a cluster was left without any backend."),
    own("cluster.available_recovered", Count, "Times that such a cluster got one again."),
    own("backend.ejected", Count, "Backends taken out because requests to them failed."),
    own("backend.ejection_refused", Count, "Backends not taken out because too many were out already."),
    own("metrics.scrapes", Count, "Requests for metrics that were answered."),
    own("metrics.scrapes_refused", Count, "Connections of the listener for metrics closed for want of room, or because they were too slow."),
    own("metrics.statsd_datagrams", Count, "Datagrams sent to statsd."),
    own("metrics.statsd_dropped", Count, "Datagrams for statsd that the kernel did not take."),
    own("metrics.detail_leases", Gauge, "Leases of a level of detail (set_metric_detail)."),
    own("config.certificate_added", Count, "Certificates added."),
    own("config.certificate_removed", Count, "Certificates removed."),
    own("config.certificate_replaced", Count, "Certificates replaced."),
    own("config.cluster_added", Count, "Clusters added, or given other settings."),
    own("config.cluster_removed", Count, "Clusters removed."),
    own("config.configuration_reloaded", Count, "Reloads that changed something."),
    own("config.events_subscribed", Count, "Subscriptions of events."),
    own("config.http_frontend_added", Count, "Frontends of HTTP listeners added."),
    own("config.http_frontend_removed", Count, "Frontends of HTTP listeners removed."),
    own("config.http_listener_added", Count, "HTTP listeners added."),
    own("config.http_listener_updated", Count, "HTTP listeners given other settings."),
    own("config.https_frontend_added", Count, "Frontends of HTTPS listeners added."),
    own("config.https_frontend_removed", Count, "Frontends of HTTPS listeners removed."),
    own("config.https_listener_added", Count, "HTTPS listeners added."),
    own("config.https_listener_updated", Count, "HTTPS listeners given other settings."),
    own("config.listener_activated", Count, "Listeners activated."),
    own("config.listener_deactivated", Count, "Listeners deactivated."),
    own("config.listener_removed", Count, "Listeners removed."),
    own("config.logging_level_changed", Count, "Changes of what is logged."),
    own("config.main_upgraded", Count, "Upgrades of the main process."),
    own("config.metric_detail_changed", Count, "Changes of the level of detail of metrics."),
    own("config.metrics_configured", Count, "Metrics enabled, disabled or cleared."),
    own("config.sozu_stop_requested", Count, "Stops that were asked for."),
    own("config.state_loaded", Count, "State files loaded."),
    own("config.state_saved", Count, "State files saved."),
    own("config.tcp_frontend_added", Count, "Frontends of TCP listeners added."),
    own("config.tcp_frontend_removed", Count, "Frontends of TCP listeners removed."),
    own("config.tcp_listener_added", Count, "TCP listeners added."),
    own("config.tcp_listener_updated", Count, "TCP listeners given other settings."),
    own("config.worker_upgraded", Count, "Workers replaced by an upgrade."),
    own("workers.lost", Count, "Workers that died or hung, unasked."),
    own("workers.relaunched", Count, "Workers started in their stead."),
];
