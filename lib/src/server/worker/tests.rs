//! What a worker owes the other sessions when one of them goes wrong, and at its limits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::order::{BackendTarget, ListenerKey};
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, HttpListenerConfig, ListenerType, Request, RequestTcpFrontend, TcpListenerConfig,
};

use super::{Configuration, Worker};
use crate::metrics::Metric;
use crate::net::{Network, Stream, Token};
use crate::session::Settings;

type Output = Rc<RefCell<Vec<u8>>>;

/// A client that has sent all it will ever send.
struct Scripted {
    input: VecDeque<u8>,
    output: Output,
    panics: bool,
}

impl Stream for Scripted {
    type Pipe = ();

    fn fill(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn drain(&mut self, (): &mut (), max: usize) -> io::Result<usize> {
        Ok(max)
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        None
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!self.panics, "a bug in a session");
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.input.len().min(into.len());
        for (slot, byte) in into.iter_mut().zip(self.input.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(into.iter_mut().zip(&self.input).map(|(slot, byte)| *slot = *byte).count())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_pair(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        Ok(self.write(first)? + self.write(second)?)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        self.input.is_empty()
    }

    fn abort(&mut self) {}
}

/// No backend is ever reachable.
struct Nowhere;

impl Network for Nowhere {
    type Stream = Scripted;
    type Listener = VecDeque<Scripted>;

    fn pipe(&mut self, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn connect(&mut self, _to: &BackendTarget, _token: Token) -> io::Result<Scripted> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn watch(&mut self, _stream: &mut Scripted, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn watch_listener(&mut self, _listener: &mut VecDeque<Scripted>, _token: Token) -> io::Result<()> {
        Ok(())
    }

    fn unwatch_listener(&mut self, _listener: &mut VecDeque<Scripted>) {}

    fn accept(&mut self, listener: &mut VecDeque<Scripted>) -> io::Result<(Scripted, SocketAddr)> {
        let stream = listener.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        Ok((stream, SocketAddr::from(([127, 0, 0, 1], 4000))))
    }

    fn elapsed(&self, _since: Instant) -> Duration {
        Duration::ZERO
    }
}

const LISTENER: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

fn client(input: &str) -> (Scripted, Output) {
    let output = Output::default();
    (Scripted { input: input.bytes().collect(), output: output.clone(), panics: false }, output)
}

fn text(output: &Output) -> String {
    String::from_utf8(output.borrow().clone()).expect("answers are text")
}

/// A worker with one HTTP listener on which these clients wait, after they were accepted.
fn serve(clients: Vec<Scripted>, connections_max: usize, buffers_max: usize) -> (Worker<Nowhere>, Instant) {
    let listener = RequestType::AddHttpListener(HttpListenerConfig {
        address: SocketAddr::from(LISTENER).into(),
        sticky_name: "SOZUBALANCEID".to_owned(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        request_timeout: 10,
        ..Default::default()
    });
    serve_on(vec![listener], ListenerType::Http, clients, connections_max, buffers_max)
}

/// The same with a TCP listener, whose frontend is for this name, or for all.
fn serve_tcp(
    sni: Option<&str>,
    clients: Vec<Scripted>,
    connections_max: usize,
    buffers_max: usize,
) -> (Worker<Nowhere>, Instant) {
    let address = SocketAddr::from(LISTENER);
    let listener = RequestType::AddTcpListener(TcpListenerConfig {
        address: address.into(),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        ..Default::default()
    });
    let frontend = RequestType::AddTcpFrontend(RequestTcpFrontend {
        cluster_id: "a".to_owned(),
        address: address.into(),
        sni: sni.map(str::to_owned),
        ..Default::default()
    });
    serve_on(vec![listener, frontend], ListenerType::Tcp, clients, connections_max, buffers_max)
}

fn serve_on(
    mut requests: Vec<RequestType>,
    kind: ListenerType,
    clients: Vec<Scripted>,
    connections_max: usize,
    buffers_max: usize,
) -> (Worker<Nowhere>, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    let now = Instant::now();
    let settings = Settings {
        connections_max,
        evicts_idle: false,
        header_fields_max: 16,
        idle_back_connections_max: 4,
        back_idle_timeout: Duration::from_secs(30),
        connection_attempts_max: 3,
        splice_pipe_bytes: 65536,
        splice_pipes_max: 4,
        record_buffers_max: 64,
        handshakes_max: 64,
        probes_max: 8,
        metric_series_max: 64,
        metric_series_off: false,
        basic_auth_bytes_max: 4096,
    };
    let configuration =
        Configuration { settings, buffers_min: 0, buffers_max, buffer_bytes: 2048, seed: 1, worker_id: 0 };
    let mut worker = Worker::new(Nowhere, configuration, now);
    let address = SocketAddr::from(LISTENER);
    requests.push(RequestType::ActivateListener(ActivateListener {
        address: address.into(),
        proxy: kind.into(),
        from_scm: false,
        interface: None,
    }));
    let requests: Vec<Request> =
        requests.into_iter().map(|request| Request { request_type: Some(request) }).collect();
    worker.apply(1, &requests).expect("the orders are good");
    worker.offer_socket(&ListenerKey { address, interface: None }, clients.into());
    worker.start();
    while worker.handle_leftovers() {}
    worker.check_invariants();
    (worker, now)
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[test]
fn a_panic_costs_its_session_and_nothing_else() {
    let (mut broken, _) = client(GET);
    broken.panics = true;
    let (before, answer_before) = client(GET);
    let (after, answer_after) = client(GET);
    let (mut worker, _) = serve(vec![before, broken, after], 10, 10);
    assert_eq!(worker.metrics().get(Metric::Panic), 1);
    assert_eq!(worker.session_count(), 2);
    for answer in [answer_before, answer_after] {
        assert!(text(&answer).starts_with("HTTP/1.1 404 "), "{}", text(&answer));
    }
}

#[test]
fn past_its_connection_limit_it_refuses_at_once_and_says_so() {
    let (clients, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| client("GET / HT")).unzip();
    let (mut worker, _) = serve(clients, 2, 10);
    assert_eq!(worker.session_count(), 2);
    assert_eq!(worker.metrics().get(Metric::ListenerConnectionCapped), 1);
    let answers: Vec<String> = answers.iter().map(text).collect();
    assert_eq!((answers[0].as_str(), answers[1].as_str()), ("", ""));
    assert!(answers[2].starts_with("HTTP/1.1 503 "), "{}", answers[2]);
}

#[test]
fn half_heads_give_way_to_those_who_wait_for_their_buffers() {
    // Two of five buffers may hold the bytes of requests: the others wait, the last one with all it has to say.
    let (mut clients, mut answers): (Vec<_>, Vec<_>) = (0..4).map(|_| client("GET / HT")).unzip();
    let (whole, answer) = client("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    clients.push(whole);
    answers.push(answer);
    let (mut worker, now) = serve(clients, 10, 5);
    assert_eq!(worker.session_count(), 5);
    assert_eq!(worker.metrics().get(Metric::BufferInUse), 2);
    assert_eq!(worker.metrics().get(Metric::BufferWaits), 3);
    assert_eq!(worker.next_wakeup(), Some(now + Duration::from_millis(500)));
    worker.tick(now, now + Duration::from_millis(500), 500);
    for _ in 0..10 {
        worker.handle_timers();
        while worker.handle_leftovers() {}
    }
    assert!(text(&answers[0]).starts_with("HTTP/1.1 503 "), "the oldest: {}", text(&answers[0]));
    assert!(text(&answers[4]).starts_with("HTTP/1.1 404 "), "the whole one: {}", text(&answers[4]));
    assert_eq!(worker.metrics().get(Metric::ListenerConnectionNoBuffer), 0);
    worker.check_invariants();
}

#[test]
fn more_fields_than_allowed_are_refused_by_name() {
    let fields: String = (0..17).map(|index| format!("X-{index}: v\r\n")).collect();
    let (many, answer) = client(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let (_worker, _) = serve(vec![many], 10, 10);
    assert!(text(&answer).starts_with("HTTP/1.1 431 "), "{}", text(&answer));
}

#[test]
fn a_panic_costs_one_session_of_a_tcp_listener() {
    let (mut broken, _) = client("");
    broken.panics = true;
    let ((before, _), (after, said)) = (client("\u{16}"), client("GET"));
    let (mut worker, _) = serve_tcp(Some("a.test"), vec![before, broken, after], 10, 10);
    assert_eq!(worker.metrics().get(Metric::Panic), 1);
    assert_eq!(worker.session_count(), 1, "one waits for the rest of a hello");
    assert_eq!(worker.metrics().get(Metric::SniPrereadNotTls), 1);
    assert_eq!(worker.metrics().get(Metric::SniPrereadActive), 1, "what panicked is not counted any more");
    assert_eq!(worker.metrics().get(Metric::ProtocolTcp), 1);
    assert_eq!(text(&said), "");
}

#[test]
fn past_its_connection_limit_a_tcp_listener_says_nothing() {
    let (clients, said): (Vec<_>, Vec<_>) = (0..3).map(|_| client("\u{16}")).unzip();
    let (mut worker, _) = serve_tcp(Some("a.test"), clients, 2, 10);
    assert_eq!(worker.session_count(), 2);
    assert_eq!(worker.metrics().get(Metric::ListenerConnectionCapped), 1);
    assert_eq!(worker.metrics().get(Metric::ListenerAcceptedTcp), 3);
    assert!(said.iter().all(|said| said.borrow().is_empty()));
}

#[test]
fn half_hellos_give_way_to_those_who_wait_for_their_buffers() {
    let (mut clients, mut said): (Vec<_>, Vec<_>) = (0..4).map(|_| client("\u{16}\u{3}")).unzip();
    let (other, word) = client("no TLS");
    clients.push(other);
    said.push(word);
    let (mut worker, now) = serve_tcp(Some("a.test"), clients, 10, 5);
    assert_eq!(worker.session_count(), 5);
    assert_eq!(worker.metrics().get(Metric::BufferInUse), 2);
    assert_eq!(worker.next_wakeup(), Some(now + Duration::from_millis(500)));
    worker.tick(now, now + Duration::from_millis(500), 500);
    for _ in 0..10 {
        worker.handle_timers();
        while worker.handle_leftovers() {}
    }
    assert_eq!(*said[0].borrow(), [21, 3, 1, 0, 2, 2, 80], "the oldest is told");
    assert_eq!(worker.metrics().get(Metric::SniPrereadNotTls), 1, "the last one was read");
    assert!(worker.metrics().get(Metric::SniPrereadEvicted) >= 1);
    worker.check_invariants();
}

#[test]
fn a_hello_has_its_time_from_the_accept() {
    let (late, said) = client("\u{16}\u{3}");
    let (mut worker, now) = serve_tcp(Some("a.test"), vec![late], 10, 10);
    for (milliseconds, late) in [(4900, 0), (5100, 1)] {
        let at = now + Duration::from_millis(milliseconds);
        assert!(worker.next_wakeup().is_some_and(|wakeup| wakeup <= at.max(now + Duration::from_secs(5))));
        worker.tick(at, at, milliseconds);
        worker.handle_timers();
        assert_eq!(worker.metrics().get(Metric::SniPrereadTimeout), late, "after {milliseconds} ms");
    }
    assert_eq!(*said.borrow(), [21, 3, 1, 0, 2, 2, 80]);
    worker.check_invariants();
}

#[test]
fn a_tcp_client_for_whom_there_is_no_backend_is_let_go() {
    let (waiting, said) = client("hello");
    let (mut worker, _) = serve_tcp(None, vec![waiting], 10, 10);
    assert_eq!(worker.session_count(), 0);
    assert_eq!(worker.metrics().get(Metric::TcpRequests), 1);
    assert_eq!(worker.metrics().get(Metric::TcpNoBackend), 1);
    assert_eq!(worker.metrics().get(Metric::ProtocolTcp), 0);
    assert_eq!(text(&said), "");
}
