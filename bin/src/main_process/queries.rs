//! Questions: what main knows itself, and what is gathered from the workers.

use std::collections::BTreeMap;
use std::time::Duration;

use kakehi_command::order::ConnectionLimit;
use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::{self, to_worker};
use kakehi_command::proto::{
    AggregatedMetrics, AvailableMetrics, ClusterHashes, ClusterInformations, EventKind, FilteredMetrics,
    MaxConnectionsPerIpLimit, MaxConnectionsPerSubnetLimit, MetricsConfiguration, ProtectedHealthCheckPhase,
    ProtectedHealthCheckReply, QueryMetricsOptions, Request, RequestCounts, Response, ResponseContent,
    ResponseStatus, RunState, WorkerInfo, WorkerInfos, WorkerResponses,
};

use super::clients::{ClientId, failure};
use super::closed::closed;
use super::dispatch::{FanOut, Question};
use super::expiry;
use super::gather::{Gather, WorkerId};
use super::merge::{cut, merge_available, merge_worker};
use super::mutations::{ok, revision_info};
use super::supervisor::{Supervisor, event};
use super::tasks::{Query, QueryKind, Work};
use super::telemetry::own;
use super::workers::Phase;
use crate::process::logging::{self, Filter};

/// What an answer has besides the numbers in it, bytes.
const ANSWER_BYTES_SPARE: usize = 1024;

/// Under this key main's own view stands beside the workers'.
const MAIN: &str = "main";

impl Supervisor {
    /// Answers what main knows itself.
    pub(super) fn ask(&self, question: &Question) -> Response {
        let state = &self.configuration.state;
        match question {
            Question::Workers => {
                let infos = self.worker_infos(|_, phase| run_state(phase));
                ok("Successfully listed workers", Some(ContentType::Workers(infos)))
            }
            Question::Frontends(filters) => {
                let list = state.list_frontends(filters);
                ok("Successfully listed frontends", Some(ContentType::FrontendList(list)))
            }
            Question::Listeners => {
                let list = state.list_listeners();
                ok("Successfully listed listeners", Some(ContentType::ListenersList(list)))
            }
            Question::RequestCounts => {
                let map = self.counts.iter().map(|(verb, count)| (in_camel_case(verb), *count)).collect();
                ok("Successfully counted requests", Some(ContentType::RequestCounts(RequestCounts { map })))
            }
            Question::Certificates(filters) => match state.query_certificates(filters) {
                Ok(list) => ok(
                    "Successfully queried certificates",
                    Some(ContentType::CertificatesWithFingerprints(list)),
                ),
                Err(error) => failure(error.to_string()),
            },
            Question::ConnectionLimit(asked) => {
                let limit = state.connection_limit(*asked);
                let content = match asked {
                    ConnectionLimit::PerSource => {
                        ContentType::MaxConnectionsPerIpLimit(MaxConnectionsPerIpLimit { limit })
                    }
                    ConnectionLimit::PerSubnet => {
                        ContentType::MaxConnectionsPerSubnetLimit(MaxConnectionsPerSubnetLimit {
                            limit,
                            ipv4_prefix: self.settings.server.subnet_ipv4_prefix(),
                            ipv6_prefix: self.settings.server.subnet_ipv6_prefix(),
                        })
                    }
                };
                ok("Successfully queried the limit", Some(content))
            }
            Question::HealthChecks(cluster) => {
                let list = self.health.list(state, cluster.as_deref(), self.now);
                ok("Successfully listed health checks", Some(ContentType::HealthChecksList(list)))
            }
            Question::ProtectedHealthChecks => {
                let reply = ProtectedHealthCheckReply {
                    phase: ProtectedHealthCheckPhase::ProtectedHealthCheckCapability.into(),
                    ..ProtectedHealthCheckReply::default()
                };
                ok(
                    "Health checks may have secret headers",
                    Some(ContentType::ProtectedHealthCheckReply(reply)),
                )
            }
            Question::Revision => {
                let revision = self.configuration.revision;
                ok(format!("The state is at revision {revision}"), Some(revision_info(revision)))
            }
        }
    }

    /// Asks the workers.
    pub(super) fn ask_workers(
        &mut self,
        client: ClientId,
        verb: &'static str,
        question: FanOut,
        request: &Request,
    ) {
        let state = &self.configuration.state;
        let timeout = self.settings.worker_timeout;
        let clusters = |vec| QueryKind::Views(Some(ContentType::Clusters(ClusterInformations { vec })));
        let (text, kind, patience) = match question {
            FanOut::Status => ("Querying status of workers...", QueryKind::Status, self.status_patience()),
            FanOut::Metrics(options) => ("Querying metrics...", QueryKind::Metrics(options), timeout),
            FanOut::ConfigureMetrics(change) => {
                self.note_metrics_configuration(change);
                ("Configuring metrics...", QueryKind::MetricsConfigured(change), timeout)
            }
            FanOut::ClusterById(id) => {
                let found = state.query_cluster_by_id(&id).into_iter().collect();
                ("Querying cluster...", clusters(found), timeout)
            }
            FanOut::ClustersByDomain(query) => {
                let found = state.query_clusters_by_domain(&query.hostname, query.path.as_deref());
                ("Querying clusters...", clusters(found), timeout)
            }
            FanOut::ClusterHashes => {
                let hashes = ClusterHashes { map: state.cluster_hashes() };
                let kind = QueryKind::Views(Some(ContentType::ClusterHashes(hashes)));
                ("Querying cluster hashes...", kind, timeout)
            }
            FanOut::CloseSessions(of) => ("Closing sessions...", QueryKind::Closed(of), timeout),
            // What main knows is another question's: a worker is asked for what it serves.
            FanOut::Certificates => ("Querying certificates...", QueryKind::Views(None), timeout),
        };
        self.clients.processing(client, text.to_owned(), self.now);
        self.fan_out(client, verb, patience, kind, request);
    }

    /// Changes what main and the workers log, those that are started later included.
    pub(super) fn change_logging(
        &mut self,
        client: ClientId,
        verb: &'static str,
        filter: &str,
        request: &Request,
    ) {
        match Filter::parse(filter) {
            Ok(parsed) => {
                logging::set_filter(parsed);
                self.fleet.set_log_filter(filter);
                self.note_for_will();
                let timeout = self.settings.worker_timeout;
                self.fan_out(client, verb, timeout, QueryKind::Logging, request);
            }
            Err(error) => self.clients.answer(client, &failure(error.to_string()), self.now),
        }
    }

    /// The answer to a question that waits for no worker any more.
    pub(super) fn finish_query(&mut self, query: Query) -> Response {
        let Query { gather, kind } = query;
        match kind {
            QueryKind::Status => {
                let answered = |id| gather.answers().get(&id).is_some_and(is_ok);
                let infos = self.worker_infos(|id, phase| match phase {
                    Phase::Serving if answered(id) => RunState::Running,
                    Phase::Serving => RunState::NotAnswering,
                    phase => run_state(phase),
                });
                ok("Successfully collected the status of workers", Some(ContentType::Workers(infos)))
            }
            QueryKind::Views(main) => views(main, gather),
            QueryKind::Metrics(options) if options.list => available(gather),
            QueryKind::MetricsConfigured(change) => {
                if change == MetricsConfiguration::Clear {
                    self.telemetry.clear();
                }
                match troubles(&gather) {
                    None => {
                        self.publish("main", event(EventKind::MetricsConfigured));
                        ok("Successfully configured metrics", None)
                    }
                    Some(troubles) => failure(troubles),
                }
            }
            QueryKind::Metrics(options) => self.metrics(&options, gather),
            QueryKind::Left { who, after } => {
                let left = gather.answers().values().filter_map(|answer| answer.message.parse::<u64>().ok());
                failure(format!(
                    "{who} has not drained after {after:.1?}: connections left: {}",
                    left.sum::<u64>()
                ))
            }
            QueryKind::Closed(of) => closed(&of, gather),
            QueryKind::Reopened => match troubles(&gather) {
                None => ok("Successfully reopened the logs", None),
                Some(troubles) => failure(format!("main has reopened its log, but {troubles}")),
            },
            QueryKind::Logging => {
                self.publish("main", event(EventKind::LoggingLevelChanged));
                match troubles(&gather) {
                    None => ok("Successfully changed the logging filter", None),
                    Some(troubles) => failure(format!(
                        "main and every worker started from now on use the new filter, but {troubles}"
                    )),
                }
            }
        }
    }

    pub(super) fn fan_out(
        &mut self,
        client: ClientId,
        verb: &'static str,
        patience: Duration,
        kind: QueryKind,
        request: &Request,
    ) {
        let id = self.tasks.next_id();
        // Who retires still carries something, which counts, but serves no configuration that could be asked for.
        let of_sessions =
            matches!(kind, QueryKind::Metrics(_) | QueryKind::Closed(_) | QueryKind::Left { .. });
        let of_sessions = of_sessions && self.stopping.is_none();
        let asked: Vec<WorkerId> = self
            .fleet
            .workers_mut()
            // One that is still booting answers nothing before it serves.
            .filter(|worker| match worker.phase() {
                Phase::Serving => true,
                Phase::Stopping => of_sessions,
                Phase::Booting(_) => false,
            })
            .map(|worker| {
                worker.send(to_worker::Message::Query(supervision::Query { id, request: request.clone() }));
                worker.id()
            })
            .collect();
        let work = Work::Query(Query { gather: Gather::new(asked), kind });
        let added = self.add_task(client, verb, Some(patience), work);
        debug_assert_eq!(added, id, "workers are asked under the task's id");
    }

    /// All processes, with the state that `judge` gives to those that run.
    fn worker_infos(&self, judge: impl Fn(WorkerId, Phase) -> RunState) -> WorkerInfos {
        let running = self
            .fleet
            .workers()
            .map(|worker| (worker.id(), worker.pid(), judge(worker.id(), worker.phase())));
        let stopped = self.fleet.without_successor().map(|(id, pid)| (id, pid, RunState::Stopped));
        let mut vec: Vec<WorkerInfo> = running
            .chain(stopped)
            .map(|(id, pid, state)| WorkerInfo {
                id: id.0,
                // The kernel's process ids are positive and fit an i32 (PID_MAX_LIMIT).
                pid: i32::try_from(pid).unwrap_or(i32::MAX),
                run_state: state.into(),
            })
            .collect();
        vec.sort_unstable_by_key(|info| info.id);
        WorkerInfos { vec }
    }

    /// A worker that is asked for its status must not keep the command line waiting until that gives up.
    fn status_patience(&self) -> Duration {
        let timeout = self.settings.worker_timeout;
        self.settings.client_timeout.map_or(timeout, |patience| timeout.min(patience / 2))
    }

    fn metrics(&self, options: &QueryMetricsOptions, gather: Gather<supervision::Answer>) -> Response {
        // Who names clusters or backends asks for nothing else.
        let narrow = !options.cluster_ids.is_empty() || !options.backend_ids.is_empty();
        let main = if narrow { BTreeMap::new() } else { self.own_metrics(options) };
        let mut merged = AggregatedMetrics { main, ..Default::default() };
        let silent = troubles(&gather);
        for (id, answer) in gather.into_answers() {
            let Some(ContentType::WorkerMetrics(metrics)) = answer.content.and_then(|c| c.content_type)
            else {
                continue;
            };
            if options.workers {
                merged.workers.insert(id.to_string(), metrics);
            } else {
                merge_worker(&mut merged.proxying, &mut merged.clusters, metrics);
            }
        }
        let mut message = "Successfully collected metrics".to_owned();
        if let Some(silent) = silent {
            message.push_str(&format!(" but {silent}"));
        }
        let left_out = cut(&mut merged, self.settings.frame_bytes_max.saturating_sub(ANSWER_BYTES_SPARE));
        if left_out > 0 {
            message.push_str(&format!(
                "; {left_out} clusters are left out, for max_command_buffer_size: name those that are wanted"
            ));
        }
        ok(message, Some(ContentType::Metrics(merged)))
    }

    /// What main itself measures.
    pub(super) fn own_metrics(&self, options: &QueryMetricsOptions) -> BTreeMap<String, FilteredMetrics> {
        let counts = self.configuration.state.counts();
        let gauge = |value: usize| Inner::Gauge(value as u64);
        let uptime = self.now.saturating_duration_since(self.started);
        let expires_at = expiry::first(&self.configuration.state);
        let expires_at = expires_at.map(|at| Inner::Gauge(u64::try_from(at).unwrap_or(0)));
        [
            ("configuration.backends", gauge(counts.backends)),
            ("configuration.clusters", gauge(counts.clusters)),
            ("configuration.certificates", gauge(counts.certificates)),
            ("configuration.frontends", gauge(counts.http_frontends + counts.tcp_frontends)),
            ("configuration.draining", gauge(self.drains.count())),
            ("process.uptime_seconds", Inner::Gauge(uptime.as_secs())),
            ("logs.dropped", Inner::Count(i64::try_from(logging::lost()).unwrap_or(i64::MAX))),
        ]
        .into_iter()
        .chain(expires_at.map(|at| ("tls.cert.min_expires_at_seconds", at)))
        .chain(self.health.numbers(&self.configuration.state).map(|(name, value, counts)| {
            let gauge = || Inner::Gauge(u64::try_from(value).unwrap_or_default());
            (name, if counts { Inner::Count(value) } else { gauge() })
        }))
        .chain(self.clients.numbers())
        .chain(self.telemetry.numbers())
        .chain(self.changes.numbers().map(|(name, count)| (name, Inner::Count(count))))
        .filter(|(name, _)| {
            options.metric_names.is_empty() || options.metric_names.iter().any(|asked| asked == name)
        })
        .map(|(name, value)| (name.to_owned(), FilteredMetrics { inner: Some(value) }))
        .collect()
    }
}

/// A request's name as Sōzu counts it: `AddCluster` for `add_cluster`.
fn in_camel_case(verb: &str) -> String {
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    verb.split('_').map(capitalised).collect()
}

fn run_state(phase: Phase) -> RunState {
    match phase {
        Phase::Booting(_) => RunState::NotAnswering,
        Phase::Serving => RunState::Running,
        Phase::Stopping => RunState::Stopping,
    }
}

fn is_ok(answer: &supervision::Answer) -> bool {
    answer.status == i32::from(ResponseStatus::Ok)
}

/// Each worker's view beside main's. One that is missing would look as if it agreed: it is a failure.
fn views(main: Option<ContentType>, gather: Gather<supervision::Answer>) -> Response {
    if let Some(troubles) = troubles(&gather) {
        return failure(troubles);
    }
    let main = main.map(|main| (MAIN.to_owned(), ResponseContent { content_type: Some(main) }));
    let mut map: BTreeMap<_, _> = main.into_iter().collect();
    for (id, answer) in gather.into_answers() {
        if let Some(content) = answer.content {
            map.insert(id.to_string(), content);
        }
    }
    ok("Successfully queried main and workers", Some(ContentType::WorkerResponses(WorkerResponses { map })))
}

fn available(gather: Gather<supervision::Answer>) -> Response {
    let own = own::ALL.iter().map(|own| own.name.to_owned()).collect();
    let mut merged = AvailableMetrics::default();
    merge_available(&mut merged, AvailableMetrics { proxy_metrics: own, cluster_metrics: Vec::new() });
    for (_, answer) in gather.into_answers() {
        if let Some(ContentType::AvailableMetrics(names)) = answer.content.and_then(|c| c.content_type) {
            merge_available(&mut merged, names);
        }
    }
    ok("Successfully listed metrics", Some(ContentType::AvailableMetrics(merged)))
}

/// Which workers failed or did not answer, in words; `None` if all is well.
pub(super) fn troubles(gather: &Gather<supervision::Answer>) -> Option<String> {
    let lost = gather.lost().iter().map(|(worker, lost)| format!("worker {worker} {lost}"));
    let failed = gather.answers().iter().filter(|(_, answer)| !is_ok(answer));
    let failed = failed.map(|(worker, answer)| format!("worker {worker}: {}", answer.message));
    let troubles: Vec<String> = lost.chain(failed).collect();
    (!troubles.is_empty()).then(|| troubles.join(", "))
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::WorkerMetrics;

    use super::super::gather::Lost;
    use super::*;

    fn answer(status: ResponseStatus, content: Option<ContentType>) -> supervision::Answer {
        supervision::Answer {
            id: 1,
            status: status.into(),
            message: "broken".to_owned(),
            content: content.map(|content| ResponseContent { content_type: Some(content) }),
        }
    }

    fn hashes() -> ContentType {
        ContentType::ClusterHashes(ClusterHashes::default())
    }

    #[test]
    fn views_stand_side_by_side() {
        let mut gather = Gather::new([WorkerId(4)]);
        gather.answer(WorkerId(4), answer(ResponseStatus::Ok, Some(hashes())));
        let response = views(Some(hashes()), gather);
        let Some(ContentType::WorkerResponses(responses)) =
            response.content.and_then(|content| content.content_type)
        else {
            panic!("worker responses")
        };
        assert_eq!(responses.map.keys().collect::<Vec<_>>(), ["4", "main"]);
    }

    #[test]
    fn a_missing_or_failing_view_is_a_failure() {
        let mut gather = Gather::new([WorkerId(4), WorkerId(5)]);
        gather.answer(WorkerId(4), answer(ResponseStatus::Failure, None));
        gather.lose(WorkerId(5), Lost::Silent);
        let response = views(Some(hashes()), gather);
        assert_eq!(response.status(), ResponseStatus::Failure);
        assert_eq!(response.message, "worker 5 did not answer in time, worker 4: broken");
    }

    #[test]
    fn names_come_from_all_workers() {
        let names = |name: &str| {
            ContentType::AvailableMetrics(AvailableMetrics {
                proxy_metrics: vec![name.to_owned()],
                cluster_metrics: Vec::new(),
            })
        };
        let mut gather = Gather::new([WorkerId(0), WorkerId(1), WorkerId(2)]);
        gather.answer(WorkerId(0), answer(ResponseStatus::Ok, Some(names("b"))));
        gather.answer(WorkerId(1), answer(ResponseStatus::Ok, Some(names("a"))));
        let unexpected = ContentType::WorkerMetrics(WorkerMetrics::default());
        gather.answer(WorkerId(2), answer(ResponseStatus::Ok, Some(unexpected)));
        let response = available(gather);
        let Some(ContentType::AvailableMetrics(merged)) =
            response.content.and_then(|content| content.content_type)
        else {
            panic!("names")
        };
        let of_workers: Vec<_> = merged.proxy_metrics.iter().filter(|name| name.len() == 1).collect();
        assert_eq!(of_workers, ["a", "b"]);
        assert!(merged.proxy_metrics.contains(&"process.uptime_seconds".to_owned()));
    }
}
