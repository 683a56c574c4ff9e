//! Backends that hang, refuse, talk nonsense, break off and die, all in one cluster, while it changes: every request gets
//! an answer, none goes to a backend that is known to be dead, and the counters add up.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kakehi_command::proto::filtered_metrics::Inner;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{Cluster, FilteredMetrics, LoadBalancingAlgorithms, QueryMetricsOptions};
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{After, Backend, Client, ReadError, get};
use kakehi_e2e::{Proxy, requests};

/// A check that turns with every probe, once a second.
const CHECK: &str = "health_check = { uri = \"/up\", interval = 1, timeout = 1, healthy_threshold = 1, \
                     unhealthy_threshold = 1, jitter_percent = 0 }\nmax_connections = 500\nmax_queue = 100";

/// Changes of the cluster, each with a look at who answers.
const ROUNDS: usize = 60;

/// Clients at a time; every other one asks once on each connection.
const CLIENTS: usize = 6;

/// How long a backend lives, and is dead.
const LIFE: Duration = Duration::from_millis(300);

/// Answers by its name, and counts what is no probe.
fn counted(name: &'static str, asked: &Arc<AtomicUsize>) -> Backend {
    let asked = Arc::clone(asked);
    Backend::start(move |exchange| {
        exchange.body_digest()?;
        if exchange.head.target != "/up" {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        exchange.answer(name)?;
        Ok(After::KeepAlive)
    })
}

/// Does ill to each request, and counts what is no probe.
fn ill(asked: &Arc<AtomicUsize>, answer: &'static str, hangs: bool) -> Backend {
    let asked = Arc::clone(asked);
    Backend::start(move |exchange| {
        exchange.body_digest()?;
        if exchange.head.target != "/up" {
            asked.fetch_add(1, Ordering::SeqCst);
            exchange.write(answer)?;
        }
        if hangs {
            exchange.await_close();
        }
        Ok(After::Close)
    })
}

/// Lives for a while, dies with all that it carries, and comes back.
fn mortal(stop: &Arc<AtomicBool>) -> (SocketAddr, JoinHandle<()>) {
    let (address, stop) = (free_address(), Arc::clone(stop));
    let live = move || {
        while !stop.load(Ordering::Relaxed) {
            #[expect(clippy::disallowed_methods, reason = "it comes back where it was")]
            let listener = TcpListener::bind(address).expect("nobody else has it");
            listener.set_nonblocking(true).expect("a socket");
            let mut connections: Vec<TcpStream> = Vec::new();
            #[expect(clippy::disallowed_methods, reason = "a life is a time")]
            let begun = Instant::now();
            while begun.elapsed() < LIFE {
                connections.extend(listener.accept().ok().map(|(stream, _)| stream));
                connections.retain_mut(answer_what_came);
                run_for(Duration::from_micros(200));
            }
            drop((listener, connections));
            run_for(LIFE);
        }
    };
    (address, std::thread::spawn(live))
}

/// False if the connection is over.
fn answer_what_came(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) if bytes[..count].ends_with(b"\r\n\r\n") => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nmortal").is_ok()
        }
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// What clients have seen: how often which status, 0 where the answer broke off behind a head of 200.
type Seen = BTreeMap<u16, i64>;

fn ask(listener: SocketAddr, keep: bool, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::new();
    let mut client: Option<Client> = None;
    let close = if keep { "" } else { "Connection: close\r\n" };
    while !stop.load(Ordering::Relaxed) {
        let mut current = client.take().unwrap_or_else(|| Client::connect(listener));
        current.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{close}\r\n"));
        let status = match current.try_response("GET") {
            Err(ReadError::Truncated(_) | ReadError::Reset) => 0,
            answer => {
                let response = answer.expect("a request has an answer");
                if keep && !response.head.closes() {
                    client = Some(current);
                }
                response.status()
            }
        };
        *seen.entry(status).or_default() += 1;
        run_for(Duration::from_micros(300));
    }
    seen
}

fn number(metrics: &BTreeMap<String, FilteredMetrics>, name: &str) -> i64 {
    match metrics.get(name).and_then(|metric| metric.inner.clone()) {
        Some(Inner::Count(count)) => count,
        Some(Inner::Gauge(level)) => i64::try_from(level).expect("a level"),
        _ => 0,
    }
}

#[test]
fn all_at_once_while_everything_changes() {
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let first = counted("good", &good);
    let second = counted("good", &good);
    let hanging = ill(&bad, "", true);
    let garbage = ill(&bad, "SSH-2.0-x\r\n", false);
    let silent = ill(&bad, "", false);
    let breaking = ill(&bad, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.", false);
    let (mortal, life) = mortal(&stop);
    let refusing = free_address();
    let ills: Vec<(&str, SocketAddr)> = vec![
        ("hanging", hanging.address()),
        ("garbage", garbage.address()),
        ("silent", silent.address()),
        ("breaking", breaking.address()),
        ("refusing", refusing),
        ("mortal", mortal),
    ];
    let proxy = Proxy::builder()
        .listener_setting("back_timeout = 1")
        .cluster_with("app", CHECK, &["hostname = \"a.test\""], &[first.address(), second.address()])
        .start();
    let mut command = proxy.command();
    let listener = proxy.address();
    let clients: Vec<JoinHandle<Seen>> = (0..CLIENTS)
        .map(|index| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask(listener, index % 2 == 0, &stop))
        })
        .collect();
    for round in 0..ROUNDS {
        let (id, address) = ills[round % ills.len()];
        command.ok(requests::add_backend("app", id, address));
        let (id, address) = ills[(round + 3) % ills.len()];
        let _not_there_at_first = command.request(requests::remove_backend("app", id, address));
        let algorithm = LoadBalancingAlgorithms::try_from(i32::try_from(round % 4).expect("small"));
        let mut cluster =
            Cluster { load_balancing: algorithm.expect("declared").into(), ..settled(&proxy, "app") };
        cluster.cluster_id = "app".to_owned();
        command.ok(RequestType::AddCluster(cluster));
        command.ok(requests::add_cluster("another"));
        command.ok(requests::add_frontend("another", listener, "another.test"));
        assert_eq!(get(listener, "another.test", "/").status(), 503, "it has no backend");
        command.ok(requests::remove_cluster("another"));
        run_for(Duration::from_millis(50));
    }
    // All of them are there, and those that are always ill are found to be.
    for (id, address) in &ills {
        command.ok(requests::add_backend("app", id, *address));
    }
    let mut told = String::new();
    let known = || {
        told = proxy.cli().ok(&["cluster", "health-check", "list", "-i", "app"]);
        let dead = |id: &str| told.lines().any(|line| line.contains(id) && line.contains("unhealthy:"));
        ["hanging", "garbage", "silent", "breaking", "refusing"].iter().all(|id| dead(id))
    };
    await_true("five are known to be dead", known);
    // Requests from before the verdict end.
    run_for(Duration::from_millis(1_500));
    let before = bad.load(Ordering::SeqCst);
    let good_before = good.load(Ordering::SeqCst);
    await_true("others are asked", || good.load(Ordering::SeqCst) > good_before + 300);
    assert_eq!(bad.load(Ordering::SeqCst), before, "a backend that is known to be dead was asked");

    stop.store(true, Ordering::Relaxed);
    let mut seen = Seen::new();
    for client in clients {
        for (status, count) in client.join().expect("each request has an answer") {
            *seen.entry(status).or_default() += count;
        }
    }
    life.join().expect("it lives");
    println!("seen by clients: {seen:?}, asked of the good: {}", good.load(Ordering::SeqCst));
    let of = |statuses: &[u16]| statuses.iter().filter_map(|status| seen.get(status)).sum::<i64>();
    let all: i64 = seen.values().sum();
    assert_eq!(of(&[0, 200, 502, 503, 504]), all, "nothing else: {seen:?}");
    assert_eq!(of(&[503]), 0, "there was always somebody to be asked: {seen:?}");
    let another = i64::try_from(ROUNDS).expect("small");
    await_true("all connections are over", || command.metric("client.connections") == 0);
    let metrics = command.metrics(QueryMetricsOptions::default());
    let (whole, cluster) = (&metrics.proxying, &metrics.clusters["app"].cluster);
    assert_eq!(number(whole, "http.requests"), all + another);
    assert_eq!(number(whole, "requests"), all + another);
    assert_eq!(number(cluster, "requests"), all);
    for (numbers, also) in [(whole, another), (cluster, 0)] {
        assert_eq!(number(numbers, "http.status.2xx"), of(&[0, 200]), "{seen:?}");
        assert_eq!(number(numbers, "http.status.5xx"), of(&[502, 504]) + also, "{seen:?}");
    }
    for level in [
        "http.active_requests",
        "cluster.in_flight",
        "backend.in_flight",
        "queue.size",
        "buffer.in_use",
        "websocket.active_requests",
    ] {
        assert_eq!(number(whole, level), 0, "{level}");
    }
    assert_eq!(number(whole, "panic"), 0);
    proxy.stop();
}

/// A cluster's settings, as they are.
fn settled(proxy: &Proxy, id: &str) -> Cluster {
    use kakehi_command::proto::response_content::ContentType;
    let content = proxy.command().ok(RequestType::QueryClusterById(id.to_owned()));
    let main = match content {
        Some(ContentType::WorkerResponses(mut responses)) => responses.map.remove("main"),
        _ => None,
    };
    let clusters = match main.and_then(|content| content.content_type) {
        Some(ContentType::Clusters(clusters)) => clusters.vec,
        _ => Vec::new(),
    };
    clusters.into_iter().find_map(|information| information.configuration).expect("it is there")
}
