//! What a worker owes the other sessions when one of them goes wrong, and at its limits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kakehi_command::order::ListenerKey;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ActivateListener, HttpListenerConfig, ListenerType, Request};

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

    fn connect(&mut self, _to: SocketAddr, _token: Token) -> io::Result<Scripted> {
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

/// A worker with one listener on which these clients wait, after they were accepted.
fn serve(clients: Vec<Scripted>, connections_max: usize, buffers_max: usize) -> (Worker<Nowhere>, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
    let now = Instant::now();
    let settings = Settings {
        connections_max,
        header_fields_max: 16,
        idle_back_connections_max: 4,
        back_idle_timeout: Duration::from_secs(30),
        connection_attempts_max: 3,
        splice_pipe_bytes: 65536,
        splice_pipes_max: 4,
        record_buffers_max: 64,
        handshakes_max: 64,
        basic_auth_bytes_max: 4096,
    };
    let configuration = Configuration { settings, buffers_min: 0, buffers_max, buffer_bytes: 2048, seed: 1 };
    let mut worker = Worker::new(Nowhere, configuration, now);
    let address = SocketAddr::from(LISTENER);
    let requests = [
        RequestType::AddHttpListener(HttpListenerConfig {
            address: address.into(),
            sticky_name: "SOZUBALANCEID".to_owned(),
            front_timeout: 60,
            back_timeout: 30,
            connect_timeout: 3,
            request_timeout: 10,
            ..Default::default()
        }),
        RequestType::ActivateListener(ActivateListener {
            address: address.into(),
            proxy: ListenerType::Http.into(),
            from_scm: false,
            interface: None,
        }),
    ];
    let requests = requests.map(|request| Request { request_type: Some(request) });
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
