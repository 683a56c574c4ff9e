//! Canned responses: what a proxy with two workers and a few clusters would answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::*;

/// OK without content.
pub(crate) fn ok(message: &str) -> Response {
    Response { status: ResponseStatus::Ok.into(), message: message.to_owned(), content: None }
}

/// OK with content.
pub(crate) fn ok_with(content: ContentType) -> Response {
    Response { content: Some(ResponseContent { content_type: Some(content) }), ..ok("Done.") }
}

/// FAILURE.
pub(crate) fn failure(message: &str) -> Response {
    Response { status: ResponseStatus::Failure.into(), ..ok(message) }
}

/// PROCESSING without content.
pub(crate) fn processing(message: &str) -> Response {
    Response { status: ResponseStatus::Processing.into(), ..ok(message) }
}

/// An event, reported by `source`.
pub(crate) fn event(
    source: &str,
    kind: EventKind,
    cluster_and_backend: Option<(&str, &str, &str)>,
) -> Response {
    let mut event = Event { kind: kind.into(), ..Event::default() };
    if let Some((cluster, backend, at)) = cluster_and_backend {
        event.cluster_id = Some(cluster.to_owned());
        event.backend_id = Some(backend.to_owned());
        event.address = Some(address(at));
    }
    Response {
        message: source.to_owned(),
        status: ResponseStatus::Processing.into(),
        ..ok_with(ContentType::Event(event))
    }
}

/// Three workers, one of each mood.
pub(crate) fn workers() -> Response {
    let worker = |id, pid, state: RunState| WorkerInfo { id, pid, run_state: state.into() };
    ok_with(ContentType::Workers(WorkerInfos {
        vec: vec![
            worker(0, 4242, RunState::Running),
            worker(1, 4243, RunState::Stopping),
            worker(11, 4244, RunState::NotAnswering),
        ],
    }))
}

/// Two clusters; worker 10 has another idea of one of them.
pub(crate) fn cluster_hashes() -> Response {
    let hashes = |blog| {
        let map = BTreeMap::from([("app".to_owned(), 0xfeed), ("blog".to_owned(), blog)]);
        ContentType::ClusterHashes(ClusterHashes { map })
    };
    worker_responses([("main", hashes(7)), ("10", hashes(8)), ("2", hashes(7))])
}

/// What each worker has closed.
pub(crate) fn closed_sessions() -> Response {
    let counts = |closed, draining| ContentType::ClosedSessions(ClosedSessions { closed, draining });
    worker_responses([("2", counts(7, 0)), ("10", counts(0, 1))])
}

/// One cluster in full; worker 1 lacks a backend.
pub(crate) fn cluster_in_full() -> Response {
    let main = cluster_information();
    let mut worker = main.clone();
    worker.backends.pop();
    let clusters = |information| ContentType::Clusters(ClusterInformations { vec: vec![information] });
    worker_responses([("main", clusters(main.clone())), ("0", clusters(main)), ("1", clusters(worker))])
}

/// No cluster, say all.
pub(crate) fn no_cluster() -> Response {
    let none = || ContentType::Clusters(ClusterInformations { vec: Vec::new() });
    worker_responses([("main", none()), ("0", none())])
}

/// An HTTP frontend with everything, a denying one, and one of each other kind.
pub(crate) fn frontends() -> Response {
    let predicate = |name: &str, kind: HeaderMatchKind, value: Option<&str>| HeaderPredicate {
        name: name.to_owned(),
        kind: kind.into(),
        value: value.map(str::to_owned),
    };
    let rich = RequestHttpFrontend {
        method: Some("GET".to_owned()),
        position: RulePosition::Pre.into(),
        header_predicates: vec![
            predicate("x-canary", HeaderMatchKind::Exact, Some("1")),
            predicate("x-user", HeaderMatchKind::Regex, Some("a.*")),
            predicate("x-debug", HeaderMatchKind::Present, None),
        ],
        ..http_frontend(Some("app"), "app.example.com", PathRuleKind::Equals, "/health")
    };
    let deny = http_frontend(None, "*.example.com", PathRuleKind::Regex, "^/admin(/.*)?$");
    let moved = RequestHttpFrontend {
        redirect: Some(RedirectPolicy::Found.into()),
        ..http_frontend(None, "old.example.com", PathRuleKind::Prefix, "")
    };
    let tcp = RequestTcpFrontend {
        cluster_id: "mail".to_owned(),
        address: address("127.0.0.1:2525"),
        sni: Some("*.mail.example".to_owned()),
        alpn: vec!["smtp".to_owned()],
        ..RequestTcpFrontend::default()
    };
    let udp = RequestUdpFrontend {
        cluster_id: "dns".to_owned(),
        address: address("[::1]:53"),
        ..RequestUdpFrontend::default()
    };
    ok_with(ContentType::FrontendList(ListedFrontends {
        http_frontends: vec![rich, deny, moved],
        https_frontends: vec![http_frontend(Some("app"), "app.example.com", PathRuleKind::Prefix, "")],
        tcp_frontends: vec![tcp],
        udp_frontends: vec![udp],
    }))
}

/// Frontends of one cluster with overlapping tags.
pub(crate) fn tagged_frontends() -> Response {
    let tagged = |tags: &[(&str, &str)]| RequestHttpFrontend {
        tags: tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        ..http_frontend(Some("app"), "app.example.com", PathRuleKind::Prefix, "")
    };
    ok_with(ContentType::FrontendList(ListedFrontends {
        http_frontends: vec![tagged(&[("owner", "ada"), ("tier", "1")]), tagged(&[("owner", "grace")])],
        ..ListedFrontends::default()
    }))
}

/// Two HTTP listeners, an HTTPS one, and two TCP ones.
pub(crate) fn listeners() -> Response {
    let plain = http_listener("127.0.0.1:8080", true);
    let rich = HttpListenerConfig {
        public_address: Some(address("203.0.113.1:80")),
        interface: Some("eth0".to_owned()),
        forwarded_headers: Some(ForwardedHeaders::Rfc7239.into()),
        sozu_id_header: Some("X-Request-Id".to_owned()),
        send_x_real_ip: Some(true),
        trusted_proxies: vec!["10.0.0.0/8".to_owned(), "::1".to_owned()],
        trace_context: Some(TraceContext::Make.into()),
        tunnel_timeout: Some(7200),
        max_body_bytes: Some(1_000_000),
        answers: BTreeMap::from([("503".to_owned(), "HTTP/1.1 503 Busy\r\n\r\n".to_owned())]),
        http_answers: Some(CustomHttpAnswers {
            answer_404: Some("HTTP/1.1 404 Gone\r\n\r\n".to_owned()),
            ..CustomHttpAnswers::default()
        }),
        ..http_listener("0.0.0.0:80", false)
    };
    let tcp = TcpListenerConfig {
        address: address("127.0.0.1:2525"),
        front_timeout: 60,
        back_timeout: 30,
        ..TcpListenerConfig::default()
    };
    let ended = TcpListenerConfig {
        address: address("127.0.0.1:465"),
        active: true,
        tls: Some(HttpsListenerConfig {
            certificate: Some(CERTIFICATE.to_owned()),
            ..HttpsListenerConfig::default()
        }),
        ..tcp.clone()
    };
    let https = HttpsListenerConfig {
        address: address("127.0.0.1:443"),
        sticky_name: "SOZUBALANCEID".to_owned(),
        versions: vec![TlsVersion::TlsV13.into()],
        groups_list: vec!["x25519".to_owned()],
        certificate: Some(CERTIFICATE.to_owned()),
        send_tls13_tickets: 4,
        client_auth: Some(ClientAuthMode::ClientAuthRequired.into()),
        client_subject_header: Some("X-Subject".to_owned()),
        handshake_timeout: Some(5),
        ..HttpsListenerConfig::default()
    };
    ok_with(ContentType::ListenersList(ListenersList {
        http_listeners: BTreeMap::from([
            ("127.0.0.1:8080".to_owned(), plain),
            ("0.0.0.0:80%eth0".to_owned(), rich),
        ]),
        https_listeners: BTreeMap::from([("127.0.0.1:443".to_owned(), https)]),
        tcp_listeners: BTreeMap::from([
            ("127.0.0.1:2525".to_owned(), tcp),
            ("127.0.0.1:465".to_owned(), ended),
        ]),
        ..ListenersList::default()
    }))
}

/// A certificate for three names, without its key.
pub(crate) const CERTIFICATE: &str = include_str!("certificate.pem");
const FINGERPRINT: &str = "940e8fab9a4d377c311be08a00b78f6cc55f8bee769d34e219b254643bf9332e";

fn listed_certificates() -> ContentType {
    let mut certificate = CertificateAndKey::default();
    certificate.certificate = CERTIFICATE.to_owned();
    let mut named = certificate.clone();
    named.names = (0..20).map(|nth| format!("{nth}.example.com")).collect();
    let certs = BTreeMap::from([(FINGERPRINT.to_owned(), certificate), ("00ff".repeat(16), named)]);
    ContentType::CertificatesWithFingerprints(CertificatesWithFingerprints { certs })
}

/// Two certificates, as the state has them.
pub(crate) fn certificates() -> Response {
    ok_with(listed_certificates())
}

/// The same from two workers, one of which has none.
pub(crate) fn certificates_of_workers() -> Response {
    let none = ContentType::CertificatesWithFingerprints(CertificatesWithFingerprints::default());
    worker_responses([("0", listed_certificates()), ("1", none)])
}

/// Names and fingerprints, from two workers, one of which has none.
pub(crate) fn certificate_summaries() -> Response {
    let summary =
        |domain: &str| CertificateSummary { domain: domain.to_owned(), fingerprint: FINGERPRINT.to_owned() };
    let at = CertificatesByAddress {
        address: address("127.0.0.1:443"),
        certificate_summaries: vec![summary("app.example.com"), summary("*.app.example.com")],
    };
    let list =
        |certificates| ContentType::CertificatesByAddress(ListOfCertificatesByAddress { certificates });
    worker_responses([("10", list(Vec::new())), ("2", list(vec![at]))])
}

/// What was asked so far.
pub(crate) fn request_counts() -> Response {
    let map = BTreeMap::from([("AddBackend".to_owned(), 12), ("Status".to_owned(), 3)]);
    ok_with(ContentType::RequestCounts(RequestCounts { map }))
}

/// Metrics of every kind, merged over the workers.
pub(crate) fn metrics() -> Response {
    let percentiles = Percentiles {
        samples: 100,
        p_50: 1,
        p_90: 2,
        p_99: 5,
        p_99_9: 8,
        p_99_99: 9,
        p_99_999: 9,
        p_100: 10,
        sum: 180,
    };
    let bucket = |le, count| Bucket { count, le };
    let histogram = FilteredHistogram { sum: 12, count: 4, buckets: vec![bucket(1, 1), bucket(4, 3)] };
    let requests = || named([("requests", Inner::Count(42))]);
    let backends = vec![BackendMetrics { backend_id: "app-1".to_owned(), metrics: requests() }];
    let app = ClusterMetrics { cluster: requests(), backends };
    ok_with(ContentType::Metrics(AggregatedMetrics {
        main: named([("workers", Inner::Gauge(2))]),
        proxying: named([
            ("http.active_requests", Inner::Gauge(3)),
            ("requests", Inner::Count(42)),
            ("request_time", Inner::Percentiles(percentiles)),
            ("connection_time", Inner::Histogram(histogram)),
        ]),
        clusters: BTreeMap::from([("app".to_owned(), app)]),
        workers: BTreeMap::new(),
    }))
}

/// Metrics of two workers, not merged.
pub(crate) fn metrics_by_worker() -> Response {
    let worker = |count| WorkerMetrics {
        proxy: named([("requests", Inner::Count(count))]),
        ..WorkerMetrics::default()
    };
    ok_with(ContentType::Metrics(AggregatedMetrics {
        workers: BTreeMap::from([("10".to_owned(), worker(20)), ("9".to_owned(), worker(22))]),
        ..AggregatedMetrics::default()
    }))
}

/// Names of metrics.
pub(crate) fn metric_names() -> Response {
    ok_with(ContentType::AvailableMetrics(AvailableMetrics {
        proxy_metrics: vec!["client.connections".to_owned(), "requests".to_owned()],
        cluster_metrics: vec!["requests".to_owned()],
    }))
}

fn address(text: &str) -> SocketAddress {
    text.parse::<SocketAddr>().expect("an address").into()
}

fn named<const N: usize>(metrics: [(&str, Inner); N]) -> BTreeMap<String, FilteredMetrics> {
    metrics
        .into_iter()
        .map(|(name, inner)| (name.to_owned(), FilteredMetrics { inner: Some(inner) }))
        .collect()
}

fn worker_responses<const N: usize>(answers: [(&str, ContentType); N]) -> Response {
    let content = |content| ResponseContent { content_type: Some(content) };
    let map = answers.into_iter().map(|(who, answer)| (who.to_owned(), content(answer))).collect();
    ok_with(ContentType::WorkerResponses(WorkerResponses { map }))
}

fn http_frontend(cluster: Option<&str>, host: &str, kind: PathRuleKind, path: &str) -> RequestHttpFrontend {
    RequestHttpFrontend {
        cluster_id: cluster.map(str::to_owned),
        address: address("127.0.0.1:8080"),
        hostname: host.to_owned(),
        path: PathRule { kind: kind.into(), value: path.to_owned() },
        position: RulePosition::Tree.into(),
        ..RequestHttpFrontend::default()
    }
}

fn http_listener(at: &str, active: bool) -> HttpListenerConfig {
    HttpListenerConfig {
        address: address(at),
        sticky_name: "SOZUBALANCEID".to_owned(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        active,
        ..HttpListenerConfig::default()
    }
}

fn cluster_information() -> ClusterInformation {
    let backend = |id: &str, at: &str, weight, backup: Option<bool>| AddBackend {
        cluster_id: "app".to_owned(),
        backend_id: id.to_owned(),
        address: address(at),
        load_balancing_parameters: Some(LoadBalancingParams { weight }),
        backup,
        ..AddBackend::default()
    };
    let cluster = Cluster {
        cluster_id: "app".to_owned(),
        load_balancing: LoadBalancingAlgorithms::RoundRobin.into(),
        max_queue: Some(100),
        slow_start: Some(30),
        ..Cluster::default()
    };
    ClusterInformation {
        configuration: Some(cluster),
        http_frontends: vec![http_frontend(Some("app"), "app.example.com", PathRuleKind::Prefix, "/")],
        backends: vec![
            backend("app-1", "10.0.0.1:80", 0, None),
            backend("app-2", "[2001:db8::2]:80", 50, Some(true)),
        ],
        ..ClusterInformation::default()
    }
}
