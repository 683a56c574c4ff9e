//! Connections to backends are shared by all clients of a worker: what one of them left behind must not
//! reach another. The worker is stopped for a moment where a race has to be won for certain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use kakehi_e2e::http::Client;
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
