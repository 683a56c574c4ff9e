//! Workers and the main process are replaced while accesses are logged: no record is lost or torn, and all of them go to
//! the file that is there.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    MetricsConfiguration, QueryMetricsOptions, UpgradeMain, filtered_metrics::Inner,
};
use kakehi_e2e::deadline::{await_true, await_value};
use kakehi_e2e::http::{Backend, Client};
use kakehi_e2e::{CommandClient, Proxy, kakehi_binary};
use serde_json::Value;

/// A boot and a drain under load, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients, each of which asks for `/ITS-NUMBER/COUNT`, on one connection for as long as that lives.
struct Clients {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Clients {
    fn start(address: SocketAddr, count: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count)
            .map(|number| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || ask(address, number, &stop, &done))
            })
            .collect();
        Self { stop, done, threads }
    }

    fn await_more(&self, count: u64) {
        let goal = self.done.load(Ordering::Relaxed) + count;
        await_true("more requests are answered", || self.done.load(Ordering::Relaxed) >= goal);
    }

    /// The paths that were asked for.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().expect("a client panicked"));
        counts
            .enumerate()
            .flat_map(|(number, count)| (0..count).map(move |n| format!("/{number}/{n}")))
            .collect()
    }
}

fn ask(address: SocketAddr, number: u64, stop: &AtomicBool, done: &AtomicU64) -> u64 {
    let mut client = None;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let response = client
            .get_or_insert_with(|| Client::connect(address))
            .get("a.test", &format!("/{number}/{count}"));
        assert_eq!(response.status(), 200);
        if response.head.closes() {
            client = None;
        }
        count += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    count
}

/// How often each path is in the file, of which every line is a whole record.
fn paths(file: &Path) -> BTreeMap<String, usize> {
    let mut paths = BTreeMap::new();
    let text = fs::read_to_string(file).unwrap_or_default();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let path = record["path"].as_str().expect("it has a path").to_owned();
        *paths.entry(path).or_insert(0) += 1;
    }
    paths
}

fn patient(proxy: &Proxy) -> CommandClient {
    let mut client = proxy.command();
    client.set_patience(PATIENCE);
    client
}

fn start(program: &Path, file: &Path, backend: &Backend) -> Proxy {
    let target = format!("access_logs_target = \"file://{}\"", file.display());
    let builder = Proxy::builder().program(program).setting(&target).setting("access_logs_format = \"json\"");
    builder.cluster("a", "a.test", &[backend.address()]).start()
}

/// Replaces a worker, and waits until it has ended.
fn replace(proxy: &Proxy, worker: u32) {
    let response = patient(proxy).request(RequestType::UpgradeWorker(worker));
    assert!(response.message.contains("in the place of"), "{}", response.message);
}

#[test]
fn every_request_is_logged_once_whoever_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, file) = (folder.path().join("kakehi"), folder.path().join("access.log"));
    fs::copy(kakehi_binary(), &program).expect("copied");
    let backend = Backend::named("one");
    let proxy = start(&program, &file, &backend);
    let clients = Clients::start(proxy.address(), 4);
    let mut files = Vec::new();
    for round in 0..4 {
        clients.await_more(200);
        for worker in proxy.workers() {
            replace(&proxy, worker.id);
            clients.await_more(50);
        }
        patient(&proxy).ok(RequestType::UpgradeMain(UpgradeMain {}));
        clients.await_more(100);
        // The new main process opens files anew, for workers that were started by itself and by others.
        let moved = folder.path().join(format!("access.log.{round}"));
        fs::rename(&file, &moved).expect("renamed");
        proxy.cli().ok(&["reopen-logs"]);
        let before = fs::metadata(&moved).expect("it is there").len();
        clients.await_more(100);
        await_true("records in the new file", || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
        assert_eq!(fs::metadata(&moved).expect("it is there").len(), before, "nobody writes to the old one");
        files.push(moved);
    }
    let asked = clients.stop();
    proxy.stop();
    files.push(file);
    let mut logged = BTreeMap::new();
    for (path, count) in files.iter().flat_map(|file| paths(file)) {
        *logged.entry(path).or_insert(0) += count;
    }
    let missing: Vec<_> = asked.iter().filter(|path| !logged.contains_key(*path)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:.10?}", missing.len(), asked.len());
    assert!(logged.values().all(|&count| count == 1), "some twice");
    assert_eq!(logged.len(), asked.len());
    println!("{} requests, each logged once, in {} files", asked.len(), files.len());
}

/// What a worker counted ends with it; main's upgrade does not touch it.
#[test]
fn what_is_lost_stays_counted_until_its_worker_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, fifo) = (folder.path().join("kakehi"), folder.path().join("fifo"));
    fs::copy(kakehi_binary(), &program).expect("copied");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK;
    let _reader = nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty()).expect("opened");
    let backend = Backend::named("one");
    let target = format!("access_logs_target = \"file://{}\"", fifo.display());
    let builder = Proxy::builder().workers(1).program(&program).setting(&target);
    let builder = builder.setting("access_log_buffer = 8192").cluster("a", "a.test", &[backend.address()]);
    let proxy = builder.start();
    let mut client = Client::connect(proxy.address());
    for _ in 0..1_000 {
        assert_eq!(client.get("a.test", "/of-some-length").status(), 200);
    }
    let lost = proxy.command().metric("access_logs.dropped");
    assert!(lost > 0);
    patient(&proxy).ok(RequestType::UpgradeMain(UpgradeMain {}));
    assert_eq!(proxy.command().metric("access_logs.dropped"), lost);
    drop(client);
    replace(&proxy, proxy.workers()[0].id);
    assert_eq!(proxy.command().metric("access_logs.dropped"), 0, "of the new worker");
    proxy.command().ok(RequestType::ConfigureMetrics(MetricsConfiguration::Clear.into()));
    let metrics = proxy.command().metrics(QueryMetricsOptions::default());
    let cleared = metrics.proxying.get("access_logs.count").and_then(|metric| metric.inner.clone());
    assert_eq!(cleared, Some(Inner::Count(0)));
    proxy.stop();
}

#[test]
fn a_worker_that_crashes_costs_only_what_had_not_been_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let backend = Backend::named("one");
    let proxy = start(kakehi_binary(), &file, &backend);
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("a.test", "/before").status(), 200);
    await_value("the record", || paths(&file).contains_key("/before").then_some(()));
    for pid in proxy.worker_pids() {
        kakehi_e2e::send_signal(pid, nix::sys::signal::Signal::SIGKILL);
        kakehi_e2e::await_replaced(&proxy, pid, 2);
    }
    assert_eq!(Client::connect(proxy.address()).get("a.test", "/after").status(), 200);
    await_value("a record of the new worker", || paths(&file).contains_key("/after").then_some(()));
    proxy.stop();
}
