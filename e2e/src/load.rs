//! Steady load from threads, which counts what fails and says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Client, ReadError};

/// Failures kept with their reason; beyond, they are only counted.
const REASONS_MAX: usize = 50;

/// Between two requests of one thread: load enough to hit every race, yet leaving the proxy a share
/// of a small machine.
const PAUSE: Duration = Duration::from_micros(300);

/// How a thread of load uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// One connection for as long as it lives; an orderly close by the proxy is followed by a new one.
    KeepAlive,
    /// A new connection for each request.
    New,
}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// The `Host`.
    pub host: String,
    /// The path.
    pub path: String,
}

/// Load that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<LoadReport>>,
}

/// What a load saw.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Requests answered by 200.
    pub ok: u64,
    /// Connections opened.
    pub connections: u64,
    /// Requests, or attempts to connect, that failed.
    pub failed: u64,
    /// Of those, connections that were refused or reset before a request was on its way.
    pub failed_to_connect: u64,
    /// Why, for the first of them.
    pub reasons: Vec<Failure>,
    /// The longest time from sending a request to the end of its response.
    pub slowest: Duration,
}

/// One failed request.
#[derive(Debug)]
pub struct Failure {
    /// When it was noticed.
    pub at: Instant,
    /// Which kind of thread, and what happened.
    pub reason: String,
}

impl Load {
    /// Starts `threads` threads on a target.
    pub fn start(target: &Target, connections: Connections, threads: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = (0..threads)
            .map(|_| {
                let (target, stop, done) = (target.clone(), Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || run(&target, connections, &stop, &done))
            })
            .collect();
        Load { stop, done, threads }
    }

    /// Requests answered so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests have been answered.
    ///
    /// # Panics
    /// If they are not.
    pub fn await_more(&self, count: u64) {
        let goal = self.done() + count;
        crate::deadline::await_true("the load makes progress", || self.done() >= goal);
    }

    /// Stops all threads at the end of their request.
    ///
    /// # Panics
    /// If a thread did.
    pub fn stop(self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = LoadReport::default();
        for thread in self.threads {
            let report = thread.join().expect("load threads count failures, they do not panic");
            total.ok += report.ok;
            total.connections += report.connections;
            total.failed += report.failed;
            total.failed_to_connect += report.failed_to_connect;
            total.reasons.extend(report.reasons);
            total.slowest = total.slowest.max(report.slowest);
        }
        total
    }
}

impl LoadReport {
    /// # Panics
    /// If a request failed, or if there was none.
    pub fn assert_flawless(&self, what: &str) {
        assert_eq!(
            self.failed,
            0,
            "{what}: {} of {} failed: {:#?}",
            self.failed,
            self.ok + self.failed,
            self.reasons
        );
        assert!(self.ok > 0, "{what}: no request was answered");
        println!(
            "{what}: {} requests on {} connections, 0 failed, slowest {:?}",
            self.ok, self.connections, self.slowest
        );
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(Failure { at: Instant::now(), reason });
        }
    }
}

fn run(target: &Target, connections: Connections, stop: &AtomicBool, done: &AtomicU64) -> LoadReport {
    let mut report = LoadReport::default();
    let close = if connections == Connections::New { "Connection: close\r\n" } else { "" };
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n", target.path, target.host);
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let reused = client.is_some();
        let mut current = match client.take() {
            Some(current) => current,
            None => match Client::try_connect(target.address) {
                Ok(current) => {
                    report.connections += 1;
                    current
                }
                Err(error) => {
                    report.failed_to_connect += 1;
                    report.fail(format!("{connections:?}: connecting: {error}"));
                    crate::deadline::run_for(PAUSE);
                    continue;
                }
            },
        };
        let started = Instant::now();
        match exchange(&mut current, request.as_bytes()) {
            Ok(keep) => {
                report.ok += 1;
                done.fetch_add(1, Ordering::Relaxed);
                report.slowest = report.slowest.max(started.elapsed());
                client = (keep && connections == Connections::KeepAlive).then_some(current);
            }
            // RFC 9112 §9.3.1: a server may close an idle connection at any time, and a client sends
            // an idempotent request again. Only the proxy's own stopping makes it do so here.
            Err(ReadError::Closed) if reused => {
                report.fail(format!("{connections:?}: an idle connection was closed"));
            }
            Err(error) => report.fail(format!("{connections:?}, reused {reused}: {error}")),
        }
        crate::deadline::run_for(PAUSE);
    }
    report
}

fn exchange(client: &mut Client, request: &[u8]) -> Result<bool, ReadError> {
    client.try_send(request)?;
    let response = client.try_response("GET")?;
    if response.status() != 200 {
        return Err(ReadError::Malformed(format!("status {}: {:.300}", response.status(), response.text())));
    }
    Ok(!response.head.closes())
}
