//! How often what was changed: the `config.*` counters of Sōzu; and how often a worker was lost. An order counts when it has its revision, however it was
//! asked for: alone, in a transaction, from a state file or by a reload; all else when it is done.

use std::collections::BTreeMap;

use kakehi_command::order::{ListenerKind, Order};
use kakehi_command::proto::EventKind;

use super::own;

/// What their names begin with, in the declared table.
const PREFIXES: [&str; 2] = ["config.", "workers."];

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Changes(BTreeMap<&'static str, i64>);

impl Changes {
    /// A change has its revision.
    pub(in super::super) fn count_order(&mut self, order: &Order) {
        self.count(name_of_order(order));
    }

    /// Something else was done, of which subscribers are told.
    pub(in super::super) fn count_event(&mut self, kind: EventKind) {
        self.count(name_of_event(kind));
    }

    /// The level of detail is another one, in all workers.
    pub(super) fn count_detail(&mut self) {
        self.count(Some("config.metric_detail_changed"));
    }

    fn count(&mut self, name: Option<&'static str>) {
        if let Some(name) = name {
            *self.0.entry(name).or_default() += 1;
        }
    }

    /// What the program counted that this process ran before. Names that this one does not have are left.
    pub(in super::super) fn take_over<'n>(&mut self, counts: impl Iterator<Item = (&'n str, i64)>) {
        for (name, count) in counts {
            let declared = self.numbers().find(|(declared, _)| *declared == name);
            if let Some((name, _)) = declared {
                self.0.insert(name, count);
            }
        }
    }

    /// Each name with its count.
    pub(in super::super) fn numbers(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let is_ours = |name: &&str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let declared = own::ALL.iter().map(|own| own.name).filter(is_ours);
        declared.map(|name| (name, self.0.get(name).copied().unwrap_or_default()))
    }
}

fn name_of_order(order: &Order) -> Option<&'static str> {
    Some(match order {
        Order::AddHttpListener(it) if it.kind() == ListenerKind::Https => "config.https_listener_added",
        Order::AddHttpListener(_) => "config.http_listener_added",
        Order::UpdateHttpListener(it) if it.kind() == ListenerKind::Https => "config.https_listener_updated",
        Order::UpdateHttpListener(_) => "config.http_listener_updated",
        Order::AddTcpListener(_) => "config.tcp_listener_added",
        Order::UpdateTcpListener(_) => "config.tcp_listener_updated",
        Order::RemoveListener { .. } => "config.listener_removed",
        Order::ActivateListener { .. } => "config.listener_activated",
        Order::DeactivateListener { .. } => "config.listener_deactivated",
        Order::AddCluster(_) => "config.cluster_added",
        Order::RemoveCluster(_) => "config.cluster_removed",
        Order::AddHttpFrontend(it) if it.is_https() => "config.https_frontend_added",
        Order::AddHttpFrontend(_) => "config.http_frontend_added",
        Order::RemoveHttpFrontend(it) if it.is_https() => "config.https_frontend_removed",
        Order::RemoveHttpFrontend(_) => "config.http_frontend_removed",
        Order::AddTcpFrontend(_) => "config.tcp_frontend_added",
        Order::RemoveTcpFrontend(_) => "config.tcp_frontend_removed",
        Order::AddCertificate(_) => "config.certificate_added",
        Order::RemoveCertificate(_) => "config.certificate_removed",
        Order::ReplaceCertificate { .. } => "config.certificate_replaced",
        // Sōzu counts no changes of these either.
        Order::AddBackend(_)
        | Order::RemoveBackend(_)
        | Order::SetConnectionLimit { .. }
        | Order::SetConnectionAttempts(_)
        | Order::SetHealthCheck { .. }
        | Order::RemoveHealthCheck(_) => return None,
    })
}

fn name_of_event(kind: EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::ConfigurationReloaded => "config.configuration_reloaded",
        EventKind::EventsSubscribed => "config.events_subscribed",
        EventKind::LoggingLevelChanged => "config.logging_level_changed",
        EventKind::MainUpgraded => "config.main_upgraded",
        EventKind::MetricsConfigured => "config.metrics_configured",
        EventKind::SozuStopRequested => "config.sozu_stop_requested",
        EventKind::StateLoaded => "config.state_loaded",
        EventKind::StateSaved => "config.state_saved",
        EventKind::WorkerUpgraded => "config.worker_upgraded",
        EventKind::WorkerKilled => "workers.lost",
        EventKind::WorkerRelaunched => "workers.relaunched",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use kakehi_command::order::ClusterId;

    use super::*;

    #[test]
    fn each_change_has_its_counter_and_is_handed_over() {
        let mut changes = Changes::default();
        let id = ClusterId::parse("c").unwrap();
        changes.count_order(&Order::RemoveCluster(id.clone()));
        changes.count_order(&Order::RemoveHealthCheck(id));
        changes.count_event(EventKind::StateSaved);
        changes.count_event(EventKind::StateSaved);
        changes.count_event(EventKind::BackendDown);
        changes.count_detail();
        let mut next = Changes::default();
        next.take_over(changes.numbers().chain([("config.of_another_version", 4)]));
        let counted: Vec<_> = next.numbers().filter(|(_, count)| *count > 0).collect();
        let expected =
            [("config.cluster_removed", 1), ("config.metric_detail_changed", 1), ("config.state_saved", 2)];
        assert_eq!(counted, expected);
    }

    #[test]
    fn each_name_of_an_event_is_declared() {
        let changes = Changes::default();
        let declared: Vec<_> = changes.numbers().map(|(name, _)| name).collect();
        for name in (0..200).filter_map(|kind| name_of_event(EventKind::try_from(kind).ok()?)) {
            assert!(declared.contains(&name), "{name}");
        }
    }
}
