//! Connections to backends are shared by all clients of a worker: what one of them left behind must not
//! reach another. The worker is stopped for a moment where a race has to be won for certain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kakehi_e2e::content::SeededContent;
use kakehi_e2e::deadline::run_for;
use kakehi_e2e::http::{Client, RestlessBackend};
use kakehi_e2e::{Proxy, send_signal};
use nix::sys::signal::Signal;

/// What the backend does on its first connection, after the first answer, when it is told.
#[derive(Clone, Copy)]
enum Then {
    /// Sends an answer that nobody asked for.
    Stray,
    /// Closes.
    Close,
}

/// A backend whose first connection goes wrong after one answer; all others answer one request.
struct Backend {
    address: SocketAddr,
    told: Sender<()>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Backend {
    /// Serves two connections.
    #[expect(clippy::disallowed_methods, reason = "a peer of the proxy")]
    fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (told, tell) = channel();
        let (finished, done) = channel();
        let thread = thread::spawn(move || {
            let (mut first, _) = listener.accept().expect("the proxy connects");
            answer(&mut first, "first");
            tell.recv().expect("the test goes on");
            match then {
                Then::Stray => {
                    first.write_all(text("stray").as_bytes()).expect("the proxy holds the connection");
                }
                Then::Close => drop(first.shutdown(std::net::Shutdown::Both)),
            }
            finished.send(()).expect("the test waits");
            let (mut second, _) = listener.accept().expect("the proxy connects again");
            answer(&mut second, "second");
        });
        Self { address, told, done, thread }
    }

    /// Lets it go wrong; returns once it has.
    fn misbehave(&self) {
        self.told.send(()).expect("it waits");
        self.done.recv().expect("it has");
    }
}

fn text(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads one request, body included, and answers it.
fn answer(stream: &mut TcpStream, body: &str) {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).expect("a request comes");
        assert!(count > 0, "the proxy ended within a request");
        bytes.extend_from_slice(&piece[..count]);
        let request = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, rest)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if rest.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
            break;
        }
    }
    stream.write_all(text(body).as_bytes()).expect("the proxy reads");
}

/// One request, then the backend goes wrong while the worker sleeps, then `request` of another client.
fn second_answer(then: Then, request: &str) -> String {
    let backend = Backend::start(then);
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address]).start();
    assert_eq!(Client::connect(proxy.address()).get("a.test", "/").text(), "first");
    let mut other = Client::connect(proxy.address());
    let worker = proxy.worker_pids()[0];
    send_signal(worker, Signal::SIGSTOP);
    // The client's request comes first: its event is likely to be looked at before the backend's.
    other.send(request);
    backend.misbehave();
    // Long enough for the worker to know that what it was told before is old.
    run_for(Duration::from_millis(20));
    send_signal(worker, Signal::SIGCONT);
    let response = other.response("GET");
    assert_eq!(response.status(), 200, "{}", response.text());
    backend.thread.join().expect("both connections were used");
    response.text()
}

#[test]
fn an_answer_that_nobody_asked_for_reaches_nobody() {
    assert_eq!(second_answer(Then::Stray, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), "second");
}

#[test]
fn a_post_is_not_sent_on_a_connection_that_its_backend_has_closed() {
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(second_answer(Then::Close, post), "second");
}

/// Clients that ask at the same time.
const CLIENTS: usize = 16;
const GETS: usize = 100_000;
const POSTS: usize = 10_000;

/// Asks for every `CLIENTS`th number, from `first` on; every eleventh by POST. Gives what went wrong.
fn ask_for_its_share(address: SocketAddr, first: usize) -> Vec<String> {
    let mut client = Client::connect(address);
    let mut failures = Vec::new();
    let mut dice = SeededContent::new(first as u64);
    for id in (first..GETS + POSTS).step_by(CLIENTS) {
        let post = (id / CLIENTS).is_multiple_of(11);
        let method = if post { "POST" } else { "GET" };
        let body = if post { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        client.send(format!("{method} /{id} HTTP/1.1\r\nHost: a.test\r\n{body}"));
        match client.try_response(method) {
            Ok(response) if response.status() == 200 && response.text() == id.to_string() => {
                if response.head.closes() {
                    client = Client::connect(address);
                }
            }
            Ok(response) => {
                failures.push(format!("{method} /{id}: {} {}", response.status(), response.text()));
                client = Client::connect(address);
            }
            Err(error) => {
                failures.push(format!("{method} /{id}: {error}"));
                client = Client::connect(address);
            }
        }
        // Now and then a pause, so that connections to the backend are left idle for all kinds of times.
        let mut die = [0; 8];
        dice.fill(&mut die);
        if die[0].is_multiple_of(8) {
            run_for(Duration::from_micros(u64::from(die[1]) * 12));
        }
    }
    failures
}

#[test]
fn backends_that_close_idle_connections_at_random_cost_nobody_a_request() {
    let backend = RestlessBackend::start(Duration::from_millis(50), GETS + POSTS);
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let address = proxy.address();
    let clients: Vec<_> =
        (0..CLIENTS).map(|first| thread::spawn(move || ask_for_its_share(address, first))).collect();
    let failures: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().expect("clients count failures")).collect();
    let mut command = proxy.command();
    let replayed = command.metric("backend.retry.stale_upstream");
    let (hits, misses) = (command.metric("backend.pool.hit"), command.metric("backend.pool.miss"));
    let executed = backend.stop();
    println!(
        "{} connections, {} closed idle, {} of them with a request in the kernel; {replayed} replayed; \
         pool: {hits} hits, {misses} misses",
        executed.accepted, executed.closed, executed.races
    );
    assert!(
        failures.is_empty(),
        "{} of {} failed: {:#?}",
        failures.len(),
        GETS + POSTS,
        &failures[..failures.len().min(20)]
    );
    let other: Vec<(usize, &u32)> =
        executed.times.iter().enumerate().filter(|(_, times)| **times != 1).take(20).collect();
    assert!(other.is_empty(), "requests that were not executed once: {other:?}");
    assert!(
        executed.closed > 1_000,
        "the backend hardly ever closed an idle connection: {} times",
        executed.closed
    );
}
