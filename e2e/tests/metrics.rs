//! Numbers of the proxy, of clusters and backends: as the command socket tells them, as statsd is sent them, and as
//! Prometheus reads them.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{
    AggregatedMetrics, EventKind, MetricDetail, MetricsConfiguration, QueryMetricsOptions, SetMetricDetail,
    SubscribeEvents,
};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{PATIENCE, await_true, await_value};
use kakehi_e2e::http::{Backend, Client, get};

use kakehi_e2e::{CommandClient, Proxy, ProxyBuilder, await_replaced, send_signal, skipped};
use nix::sys::signal::Signal;

/// Two clusters, `a` and `b`, behind hosts of their names.
fn site(metrics: &str) -> (ProxyBuilder, Backend, Backend) {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let builder = Proxy::builder()
        .cluster("a", "a.test", &[a.address()])
        .cluster("b", "b.test", &[b.address()])
        .tables(&format!("\n[metrics]\n{metrics}\n"));
    (builder, a, b)
}

fn ask(command: &mut CommandClient, options: QueryMetricsOptions) -> AggregatedMetrics {
    command.metrics(options)
}

fn count_of(metrics: &AggregatedMetrics, cluster: &str, name: &str) -> Option<i64> {
    match metrics.clusters.get(cluster)?.cluster.get(name)?.inner {
        Some(Inner::Count(count)) => Some(count),
        _ => None,
    }
}

/// The numbers of a cluster once it has so many requests that are over.
fn await_requests(command: &mut CommandClient, cluster: &str, requests: i64) -> AggregatedMetrics {
    await_value("all requests are counted", || {
        let metrics = ask(command, QueryMetricsOptions::default());
        let over = ["http.status.2xx", "http.status.5xx"];
        let over: i64 = over.iter().filter_map(|name| count_of(&metrics, cluster, name)).sum();
        (over == requests).then_some(metrics)
    })
}

/// The text that the listener for Prometheus answers with.
fn scrape(address: SocketAddr, accept: &str) -> String {
    let mut client = Client::connect(address);
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
    let response = client.response("GET");
    assert_eq!(response.status(), 200);
    response.text()
}

/// The value of a series in such a text.
fn sample(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

#[test]
fn clusters_and_backends_have_numbers_that_add_up() {
    let (builder, _a, _b) = site("address = \"127.0.0.1:9\"");
    let proxy = builder.start();
    let mut command = proxy.command();
    for n in 0..12 {
        assert_eq!(get(proxy.address(), if n % 3 == 0 { "b.test" } else { "a.test" }, "/").status(), 200);
    }
    await_requests(&mut command, "a", 8);
    let metrics = await_requests(&mut command, "b", 4);
    let of =
        |name: &str| count_of(&metrics, "a", name).unwrap_or(0) + count_of(&metrics, "b", name).unwrap_or(0);
    for name in ["requests", "http.status.2xx", "bytes_in", "bytes_out", "back_bytes_in", "back_bytes_out"] {
        let Some(Inner::Count(total)) = metrics.proxying[name].inner else { panic!("{name} counts") };
        assert_eq!(of(name), total, "{name} of both clusters is that of the proxy");
    }
    let a = &metrics.clusters["a"];
    let Some(Inner::Percentiles(times)) = &a.cluster["request_time"].inner else { panic!("percentiles") };
    assert_eq!(times.samples, 8);
    let Some(Inner::Histogram(times)) = &a.cluster["request_time_histogram"].inner else {
        panic!("a histogram")
    };
    assert_eq!((times.count, times.buckets.iter().map(|bucket| bucket.count).sum()), (8, 8_u64));
    let [backend] = a.backends.as_slice() else { panic!("one backend") };
    assert_eq!(backend.metrics["requests"].inner, Some(Inner::Count(8)));
    assert_eq!(backend.metrics["backend.available"].inner, Some(Inner::Gauge(1)), "not once for each worker");
    assert!(backend.metrics.contains_key("backend_response_time"));

    let named = QueryMetricsOptions { cluster_ids: vec!["b".to_owned()], ..Default::default() };
    let narrow = ask(&mut command, named);
    assert!(narrow.proxying.is_empty() && narrow.main.is_empty());
    assert_eq!(narrow.clusters.keys().collect::<Vec<_>>(), ["b"]);
    let apart =
        ask(&mut command, QueryMetricsOptions { workers: true, no_clusters: true, ..Default::default() });
    assert_eq!((apart.workers.len(), apart.proxying.len()), (2, 0));
    assert!(apart.workers.values().all(|worker| worker.clusters.is_empty()));
    proxy.stop();
}

#[test]
fn numbers_begin_anew_and_those_of_clusters_can_be_left_out() {
    let (builder, _a, _b) = site("address = \"127.0.0.1:9\"");
    let proxy = builder.start();
    let mut command = proxy.command();
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    await_requests(&mut command, "a", 1);
    command.ok(RequestType::ConfigureMetrics(MetricsConfiguration::Clear.into()));
    assert_eq!((command.metric("requests"), command.metric("bytes_in")), (0, 0));
    assert_eq!(count_of(&ask(&mut command, QueryMetricsOptions::default()), "a", "requests"), None);

    command.ok(RequestType::ConfigureMetrics(MetricsConfiguration::Disabled.into()));
    // Those that start later know of it, too.
    let victim = proxy.worker_pids()[0];
    send_signal(victim, Signal::SIGKILL);
    await_replaced(&proxy, victim, 2);
    for _ in 0..8 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
    await_true("the proxy counts on", || command.metric("requests") == 8);
    assert!(ask(&mut command, QueryMetricsOptions::default()).clusters.is_empty());
    command.ok(RequestType::ConfigureMetrics(MetricsConfiguration::Enabled.into()));
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    await_requests(&mut command, "a", 1);
    proxy.stop();
}

#[test]
fn no_more_clusters_and_backends_have_numbers_than_may() {
    let (builder, _a, _b) = site("address = \"127.0.0.1:9\"\nmax_series = 2");
    let proxy = builder.workers(1).start();
    let mut command = proxy.command();
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    await_requests(&mut command, "a", 1);
    assert_eq!(get(proxy.address(), "b.test", "/").status(), 200);
    await_true("both are counted", || command.metric("http.status.2xx") == 2);
    let metrics = ask(&mut command, QueryMetricsOptions::default());
    assert_eq!(metrics.clusters.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!((command.metric("metrics.series"), command.metric("metrics.series_refused")), (2, 2));
    proxy.stop();
}

#[test]
fn statsd_is_sent_what_has_changed() {
    let statsd = UdpSocket::bind(free_address()).expect("a socket");
    statsd.set_read_timeout(Some(PATIENCE)).expect("a plain option");
    let address = statsd.local_addr().expect("an address");
    let (builder, _a, _b) = site(&format!("address = \"{address}\"\nprefix = \"k\"\ndetail = \"backend\""));
    let proxy = builder.start();
    for _ in 0..5 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
    let (mut requests, mut of_cluster, mut of_backend, mut times) = (0, 0, 0, 0.0);
    let mut room = [0; 4096];
    while requests < 5 || of_cluster < 5 || of_backend < 5 || times < 4.99 {
        let count = statsd.recv(&mut room).expect("what was counted comes");
        assert!(count <= 1400, "{count} bytes in a datagram");
        let text = std::str::from_utf8(&room[..count]).expect("text");
        for line in text.lines() {
            let (name, value) = line.split_once(':').expect("a name and a value");
            let count =
                || value.split('|').next().and_then(|count| count.parse::<i64>().ok()).expect("a count");
            match name {
                "k.WRK.requests" => requests += count(),
                "k.WRK.cluster.a.requests" => of_cluster += count(),
                _ if name.starts_with("k.WRK.cluster.a.backend.") && name.ends_with(".requests") => {
                    of_backend += count();
                }
                "k.WRK.request_time" => {
                    assert!(value.contains("|ms"), "{line}");
                    let rate =
                        value.split_once("|@").map_or(1.0, |(_, rate)| rate.parse::<f64>().expect("a rate"));
                    times += 1.0 / rate;
                }
                _ => assert!(name.starts_with("k."), "{line}"),
            }
        }
    }
    assert_eq!((requests, of_cluster, of_backend), (5, 5, 5), "each request is told once");
    proxy.stop();
}

#[test]
fn a_statsd_that_is_not_there_disturbs_nobody() {
    let (builder, _a, _b) = site(&format!("address = \"{}\"", free_address()));
    let proxy = builder.start();
    let mut command = proxy.command();
    await_true("datagrams are dropped", || {
        let main = ask(&mut command, QueryMetricsOptions::default()).main;
        matches!(main["metrics.statsd_dropped"].inner, Some(Inner::Count(dropped)) if dropped > 0)
    });
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    proxy.stop();
}

#[test]
fn prometheus_parsers_take_both_formats() {
    let address = free_address();
    let (builder, _a, _b) = site(&format!("prometheus_address = \"{address}\"\ndetail = \"backend\""));
    let proxy = builder.start();
    for _ in 0..3 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
    await_requests(&mut proxy.command(), "a", 3);
    let text = scrape(address, "text/plain");
    assert_eq!(sample(&text, "kakehi_by_cluster_requests_total{cluster=\"a\"}"), Some(3.0));
    for name in ask(&mut proxy.command(), QueryMetricsOptions::default()).main.keys() {
        let series = format!("kakehi_main_{}", name.replace('.', "_"));
        assert!(text.contains(&series), "{name} is declared, and told");
    }
    let open = scrape(address, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5");
    assert!(open.ends_with("# EOF\n"));
    checked_by("promtool", &["check", "metrics"], &text);
    let parser = "import sys\nfrom prometheus_client.MODULE import text_string_to_metric_families as parse\n\
                  families = list(parse(sys.stdin.read()))\nassert len(families) > 100, len(families)";
    checked_by("/usr/bin/python3", &["-c", &parser.replace("MODULE", "parser")], &text);
    checked_by("/usr/bin/python3", &["-c", &parser.replace("MODULE", "openmetrics.parser")], &open);
    proxy.stop();
}

/// Runs a foreign parser on a text, and wants it to find nothing amiss.
fn checked_by(program: &str, arguments: &[&str], text: &str) {
    let is_python = program.ends_with("python3");
    let has_module =
        || Command::new(program).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
    if is_python && !has_module().is_ok_and(|status| status.success()) {
        return skipped("python3 has no prometheus_client (Debian: python3-prometheus-client)");
    }
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(!Path::new(program).is_absolute() || !Path::new(program).exists(), "{program} can be run");
        return skipped(&format!("there is no {program} (Debian: prometheus)"));
    };
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads all");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program}: {said}");
}

#[test]
fn no_count_falls_when_a_worker_dies() {
    let address = free_address();
    let (builder, _a, _b) = site(&format!("prometheus_address = \"{address}\""));
    let proxy = builder.start();
    for _ in 0..10 {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
    await_requests(&mut proxy.command(), "a", 10);
    assert_eq!(sample(&scrape(address, "*/*"), "kakehi_requests_total"), Some(10.0));
    for victim in proxy.worker_pids() {
        send_signal(victim, Signal::SIGKILL);
        await_replaced(&proxy, victim, 2);
    }
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    let requests = await_value("the last request is counted", || {
        let text = scrape(address, "*/*");
        let found = sample(&text, "kakehi_by_cluster_requests_total{cluster=\"a\"}").expect("it is told");
        assert!(found >= 10.0, "it fell to {found}");
        (found > 10.0).then(|| sample(&text, "kakehi_requests_total")).flatten()
    });
    assert!((requests - 11.0).abs() < 0.1, "{requests}");
    proxy.stop();
}

#[test]
fn whoever_asks_slowly_or_never_keeps_nobody_waiting() {
    let address = free_address();
    let settings = "prometheus_max_connections = 4\nprometheus_timeout = 1";
    let (builder, _a, _b) = site(&format!("prometheus_address = \"{address}\"\n{settings}"));
    let proxy = builder.start();
    let mut silent: Vec<Client> = (0..6).map(|_| Client::connect(address)).collect();
    // Those that have not asked make room for one that does, and are closed when their time is over.
    assert!(sample(&scrape(address, "*/*"), "kakehi_main_metrics_scrapes_refused_total").is_some());
    for client in &mut silent {
        let mut stream = client.stream();
        stream.set_read_timeout(Some(PATIENCE)).expect("a plain option");
        let ended = stream.read(&mut [0; 16]);
        assert!(matches!(ended, Ok(0) | Err(_)), "nothing is said to the silent");
    }
    let mut dripping = Client::connect(address);
    for byte in b"GET /metrics HTTP/1.1\r\n" {
        if dripping.try_send(&[*byte]).is_err() {
            break;
        }
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    }
    assert_eq!(proxy.cli().run(&["status"]).code, Some(0));
    for (request, status) in
        [("GET / HTTP/1.1\r\n\r\n", 404), ("DELETE /metrics HTTP/1.1\r\n\r\n", 405), ("metrics\r\n\r\n", 400)]
    {
        let mut client = Client::connect(address);
        client.send(request);
        assert_eq!(client.response("GET").status(), status, "{request:?}");
    }
    proxy.stop();
}

#[test]
fn a_lease_shows_more_for_a_while() {
    let address = free_address();
    let (builder, _a, _b) = site(&format!("prometheus_address = \"{address}\"\ndetail = \"process\""));
    let proxy = builder.start();
    let mut command = proxy.command();
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    await_requests(&mut command, "a", 1);
    assert!(!scrape(address, "*/*").contains("by_cluster"));

    let mut events = proxy.command();
    events.send(RequestType::SubscribeEvents(SubscribeEvents {}));
    assert!(events.receive().is_ok(), "the subscription itself");
    let lease = |clear| SetMetricDetail {
        client_id: "test".to_owned(),
        detail: Some(MetricDetail::DetailBackend.into()),
        ttl_seconds: Some(30),
        clear: Some(clear),
        ..SetMetricDetail::default()
    };
    let Some(ContentType::MetricDetailStatus(status)) =
        command.ok(RequestType::SetMetricDetail(lease(false)))
    else {
        panic!("a status")
    };
    assert_eq!(
        (status.configured(), status.effective()),
        (MetricDetail::DetailProcess, MetricDetail::DetailBackend)
    );
    assert_eq!(status.workers.len(), 2);
    let event = events.receive().expect("an event").content.and_then(|content| content.content_type);
    let Some(ContentType::Event(event)) = event else { panic!("an event") };
    assert_eq!(event.kind(), EventKind::MetricDetailChanged);
    assert_eq!(event.metric_detail.expect("it tells which").effective(), MetricDetail::DetailBackend);
    assert!(scrape(address, "*/*").contains("by_backend"));
    assert!(
        proxy.command().refused(RequestType::SetMetricDetail(lease(true))).contains("not of this connection")
    );
    command.ok(RequestType::SetMetricDetail(lease(true)));
    assert!(!scrape(address, "*/*").contains("by_cluster"));
    let too_long = SetMetricDetail { ttl_seconds: Some(301), ..lease(false) };
    assert!(command.refused(RequestType::SetMetricDetail(too_long)).contains("300"));
    proxy.stop();
}

#[test]
fn an_address_in_use_is_told_at_the_start() {
    let (address, _taken) = kakehi_e2e::address::taken_address();
    let (builder, _a, _b) = site(&format!("prometheus_address = \"{address}\""));
    let mut proxy = builder.spawn();
    assert!(!proxy.await_exit().success());
    await_true("it says why", || proxy.output().contains("prometheus_address"));
}
