//! Limits of what clusters and backends have in flight, and the line of those that wait.

#![expect(
    clippy::disallowed_types,
    reason = "what a backend is told, and what it has seen, is shared with its test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{PATIENCE, await_true, await_value, run_for};
use kakehi_e2e::http::{After, Backend, Client, Response};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::{Proxy, await_replaced, send_signal};
use nix::sys::signal::Signal;

const HOST: &[&str] = &["hostname = \"a.test\""];

/// What a backend has to do, and the most it ever had at a time.
#[derive(Default)]
struct Work {
    now: usize,
    most: usize,
    /// Requests that may be answered.
    answers: usize,
}

/// A backend that answers when it is told to, and counts what it has in flight.
struct Gate {
    backend: Backend,
    work: Arc<(Mutex<Work>, Condvar)>,
}

impl Gate {
    fn start() -> Self {
        let work = Arc::new((Mutex::new(Work::default()), Condvar::new()));
        let of_backend = work.clone();
        let backend = Backend::start(move |exchange| {
            exchange.body_digest()?;
            let (work, told) = &*of_backend;
            let mut state = work.lock().unwrap_or_else(PoisonError::into_inner);
            state.now += 1;
            state.most = state.most.max(state.now);
            let waited = told.wait_timeout_while(state, PATIENCE, |state| state.answers == 0);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.answers = state.answers.saturating_sub(1);
            state.now -= 1;
            drop(state);
            exchange.answer("done").map(|()| After::KeepAlive)
        });
        Self { backend, work }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    fn with<T>(&self, what: impl FnOnce(&mut Work) -> T) -> T {
        let result = what(&mut self.work.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.work.1.notify_all();
        result
    }

    /// Answers so many.
    fn answer(&self, count: usize) {
        self.with(|work| work.answers += count);
    }

    fn await_in_flight(&self, count: usize) {
        await_true("so many in flight", || self.with(|work| work.now) == count);
    }

    /// The path of the next request.
    fn next(&self) -> String {
        self.backend.next_request().target
    }
}

fn ask(proxy: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(proxy);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    client
}

fn answer_of(client: &mut Client) -> Response {
    client.response("GET")
}

fn start(workers: usize, keys: &str, backends: &[SocketAddr]) -> Proxy {
    Proxy::builder().workers(workers).cluster_with("a", keys, HOST, backends).start()
}

fn await_metric(proxy: &Proxy, name: &str, value: i64) {
    let mut command = proxy.command();
    await_true(name, || command.metric(name) == value);
}

fn check_nothing_is_counted(proxy: &Proxy) {
    for name in ["cluster.in_flight", "backend.in_flight", "queue.size"] {
        await_metric(proxy, name, 0);
    }
}

/// Clients that ask again and again, on connections that go to any worker.
fn hammer(proxy: SocketAddr, clients: usize, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(move || {
                for n in 0..requests {
                    let mut client = ask(proxy, &format!("/{n}"));
                    assert_eq!(answer_of(&mut client).status(), 200);
                }
            });
        }
    });
}

/// A backend that takes some time for each request, and knows the most it had at a time.
fn busy() -> (Backend, Arc<(Mutex<Work>, Condvar)>) {
    let work = Arc::new((Mutex::new(Work::default()), Condvar::new()));
    let of_backend = work.clone();
    let change = move |by: isize| {
        let mut state = of_backend.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = state.now.saturating_add_signed(by);
        state.most = state.most.max(state.now);
    };
    let backend = Backend::start(move |exchange| {
        exchange.body_digest()?;
        change(1);
        run_for(Duration::from_millis(3));
        change(-1);
        exchange.answer("done").map(|()| After::KeepAlive)
    });
    (backend, work)
}

fn most(work: &(Mutex<Work>, Condvar)) -> usize {
    work.0.lock().unwrap_or_else(PoisonError::into_inner).most
}

#[test]
fn a_cluster_s_limit_holds_over_all_workers() {
    let (backend, work) = busy();
    let keys = "max_connections = 4\nmax_queue = 100\nqueue_timeout_ms = 60000";
    let proxy = start(2, keys, &[backend.address()]);
    hammer(proxy.address(), 16, 15);
    assert_eq!(most(&work), 4, "all of it is used, and no more");
    let mut command = proxy.command();
    assert!(command.metric("queue.served") > 0);
    assert_eq!((command.metric("queue.full"), command.metric("queue.timeouts")), (0, 0));
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn backends_have_limits_of_their_own() {
    let ((first, of_first), (second, of_second)) = (busy(), busy());
    let builder = Proxy::builder().workers(2);
    let tables = format!(
        "[clusters.a]\nprotocol = \"http\"\nmax_connections_per_backend = 1\nmax_queue = 100\n\
         queue_timeout_ms = 60000\n\
         frontends = [{{ address = \"{}\", hostname = \"a.test\" }}]\n\
         backends = [{{ address = \"{}\" }}, {{ address = \"{}\", max_connections = 3 }}]\n",
        builder.address(),
        first.address(),
        second.address()
    );
    let proxy = builder.tables(&tables).start();
    hammer(proxy.address(), 16, 15);
    assert_eq!((most(&of_first), most(&of_second)), (1, 3));
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn who_came_first_is_served_first() {
    let gate = Gate::start();
    let keys = "max_connections = 1\nmax_queue = 10\nqueue_timeout_ms = 60000";
    let proxy = start(1, keys, &[gate.address()]);
    let mut clients = vec![ask(proxy.address(), "/0")];
    gate.await_in_flight(1);
    for n in 1..6 {
        clients.push(ask(proxy.address(), &format!("/{n}")));
        await_metric(&proxy, "queue.size", n);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(gate.next(), format!("/{n}"));
        gate.answer(1);
        assert_eq!(answer_of(client).status(), 200);
    }
    assert_eq!(proxy.command().metric("queue.served"), 5);
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn who_waits_for_too_long_is_told_when_to_come_again() {
    let gate = Gate::start();
    let keys = "max_connections = 1\nmax_queue = 10\nqueue_timeout_ms = 300\nretry_after = 7";
    let proxy = start(1, keys, &[gate.address()]);
    let mut first = ask(proxy.address(), "/");
    gate.await_in_flight(1);
    #[expect(clippy::disallowed_methods, reason = "measures how long a request waits")]
    let asked = Instant::now();
    let mut second = ask(proxy.address(), "/");
    let refused = answer_of(&mut second);
    let waited = asked.elapsed();
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("7")));
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert_eq!(proxy.command().metric("queue.timeouts"), 1);
    gate.answer(2);
    assert_eq!(answer_of(&mut first).status(), 200, "who is served is not disturbed");
    // Nothing is wrong with the connection: to come again costs no new one.
    assert_eq!(refused.field("connection"), None);
    second.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(answer_of(&mut second).status(), 200);
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn beyond_the_queue_the_answer_comes_at_once() {
    let gate = Gate::start();
    let keys = "max_connections = 1\nmax_queue = 2\nqueue_timeout_ms = 60000";
    // The queue, too, is that of all workers.
    let proxy = start(2, keys, &[gate.address()]);
    let mut served: Vec<_> = vec![ask(proxy.address(), "/")];
    gate.await_in_flight(1);
    for n in 1..3 {
        served.push(ask(proxy.address(), "/"));
        await_metric(&proxy, "queue.size", n);
    }
    for _ in 0..8 {
        let refused = answer_of(&mut ask(proxy.address(), "/"));
        assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("60")));
    }
    assert_eq!(proxy.command().metric("queue.full"), 8);
    gate.answer(3);
    for client in &mut served {
        assert_eq!(answer_of(client).status(), 200);
    }
    let counted =
        ["queue.full", "queue.served", "queue.timeouts"].map(|name| proxy.command().count_of("a", name));
    assert_eq!(counted, [8, 2, 0], "of the cluster");
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn without_a_queue_nobody_waits() {
    let gate = Gate::start();
    let proxy = start(1, "max_connections = 1", &[gate.address()]);
    let mut first = ask(proxy.address(), "/");
    gate.await_in_flight(1);
    assert_eq!(answer_of(&mut ask(proxy.address(), "/")).status(), 503);
    // Where a body follows, and where something else than HTTP may, the connection ends.
    for rest in ["Content-Length: 4\r\n\r\nbody", "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"] {
        let mut other = Client::connect(proxy.address());
        other.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{rest}"));
        let refused = answer_of(&mut other);
        assert_eq!((refused.status(), refused.field("connection")), (503, Some("close")));
        other.expect_close();
    }
    gate.answer(2);
    assert_eq!(answer_of(&mut first).status(), 200);
    assert_eq!(answer_of(&mut ask(proxy.address(), "/")).status(), 200);
    proxy.stop();
}

#[test]
fn a_client_that_leaves_leaves_the_queue() {
    let gate = Gate::start();
    let keys = "max_connections = 1\nmax_queue = 10\nqueue_timeout_ms = 60000";
    let proxy = start(1, keys, &[gate.address()]);
    let mut first = ask(proxy.address(), "/first");
    gate.await_in_flight(1);
    let gone = ask(proxy.address(), "/gone");
    await_metric(&proxy, "queue.size", 1);
    let mut last = ask(proxy.address(), "/last");
    await_metric(&proxy, "queue.size", 2);
    drop(gone);
    await_metric(&proxy, "queue.size", 1);
    assert_eq!(proxy.command().metric("queue.abandoned"), 1);
    gate.answer(2);
    assert_eq!(answer_of(&mut first).status(), 200);
    assert_eq!(answer_of(&mut last).status(), 200);
    assert_eq!([gate.next(), gate.next()], ["/first", "/last"]);
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn places_of_a_killed_worker_come_back() {
    let gate = Gate::start();
    let keys =
        "max_connections = 6\nmax_connections_per_backend = 6\nmax_queue = 100\nqueue_timeout_ms = 60000";
    let proxy = start(2, keys, &[gate.address()]);
    for _round in 0..2 {
        let mut clients: Vec<_> = (0..6).map(|n| ask(proxy.address(), &format!("/{n}"))).collect();
        gate.await_in_flight(6);
        let waiting = ask(proxy.address(), "/waits");
        await_metric(&proxy, "queue.size", 1);
        let victims = proxy.worker_pids();
        for &victim in &victims {
            send_signal(victim, Signal::SIGKILL);
            await_replaced(&proxy, victim, 2);
        }
        clients.retain_mut(|client| client.try_response("GET").is_ok());
        assert!(clients.is_empty(), "they died with their workers");
        drop(waiting);
        // For the backend they go on until it answers.
        gate.answer(100);
        gate.await_in_flight(0);
        gate.with(|work| work.answers = 0);
        let mut clients: Vec<_> = (0..6).map(|n| ask(proxy.address(), &format!("/{n}"))).collect();
        gate.await_in_flight(6);
        let mut seventh = ask(proxy.address(), "/");
        await_metric(&proxy, "queue.size", 1);
        gate.answer(7);
        for client in &mut clients {
            assert_eq!(answer_of(client).status(), 200);
        }
        assert_eq!(answer_of(&mut seventh).status(), 200);
        check_nothing_is_counted(&proxy);
    }
    proxy.stop();
}

#[test]
fn who_waits_sees_changes() {
    let (gate, other) = (Gate::start(), Gate::start());
    let keys = "max_connections_per_backend = 1\nmax_queue = 10\nqueue_timeout_ms = 60000";
    let proxy = start(1, keys, &[gate.address()]);
    let cli = proxy.cli();
    let mut first = ask(proxy.address(), "/first");
    gate.await_in_flight(1);
    let mut second = ask(proxy.address(), "/second");
    await_metric(&proxy, "queue.size", 1);
    let address = other.address().to_string();
    cli.ok(&["backend", "add", "--id", "a", "--backend-id", "other", "--address", &address]);
    other.await_in_flight(1);
    let mut third = ask(proxy.address(), "/third");
    await_metric(&proxy, "queue.size", 1);
    cli.ok(&[
        "backend",
        "add",
        "--id",
        "a",
        "--backend-id",
        "other",
        "--address",
        &address,
        "--max-connections",
        "2",
    ]);
    other.await_in_flight(2);
    let mut fourth = ask(proxy.address(), "/fourth");
    await_metric(&proxy, "queue.size", 1);
    cli.ok(&[
        "cluster",
        "add",
        "--id",
        "a",
        "--max-connections-per-backend",
        "2",
        "--max-queue",
        "10",
        "--queue-timeout-ms",
        "60000",
    ]);
    gate.await_in_flight(2);
    let mut last = ask(proxy.address(), "/last");
    await_metric(&proxy, "queue.size", 1);
    cli.ok(&["cluster", "remove", "--id", "a"]);
    assert_eq!(answer_of(&mut last).status(), 503, "there is no such cluster any more");
    gate.answer(2);
    other.answer(2);
    for client in [&mut first, &mut second, &mut third, &mut fourth] {
        assert_eq!(answer_of(client).status(), 200);
    }
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn a_tunnel_keeps_its_place_until_it_ends() {
    let backend = Backend::start(|exchange| {
        exchange.body_digest()?;
        if exchange.head.target == "/chat" {
            exchange
                .write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")?;
            exchange.await_close();
            return Ok(After::Close);
        }
        exchange.answer("done").map(|()| After::KeepAlive)
    });
    let keys = "max_connections = 1\nmax_queue = 10\nqueue_timeout_ms = 60000";
    let proxy = start(1, keys, &[backend.address()]);
    let mut chat = Client::connect(proxy.address());
    chat.send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(chat.read_head().expect("a head").status, 101);
    let mut second = ask(proxy.address(), "/");
    await_metric(&proxy, "queue.size", 1);
    await_metric(&proxy, "cluster.in_flight", 1);
    drop(chat);
    assert_eq!(answer_of(&mut second).status(), 200);
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn the_body_waits_with_its_client() {
    let gate = Gate::start();
    let keys = "max_connections = 1\nmax_queue = 10\nqueue_timeout_ms = 60000";
    let proxy = start(1, keys, &[gate.address()]);
    let mut first = ask(proxy.address(), "/");
    gate.await_in_flight(1);
    let before = proxy.command().metric("bytes_in");
    let mut second = Client::connect(proxy.address());
    let body = vec![b'x'; 300_000];
    second.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    await_metric(&proxy, "queue.size", 1);
    // As much of it as the kernel takes goes without a reader.
    let sender = std::thread::spawn(move || {
        second.send(&body);
        second
    });
    run_for(Duration::from_millis(200));
    let read = proxy.command().metric("bytes_in") - before;
    assert!(read < 1000, "{read} bytes were read of a request that waits");
    gate.answer(2);
    assert_eq!(answer_of(&mut first).status(), 200);
    let mut second = sender.join().expect("it is sent");
    assert_eq!(second.response("POST").status(), 200);
    proxy.stop();
}

#[test]
fn who_waits_keeps_no_buffers_from_who_is_served() {
    let backend = Backend::start(|exchange| {
        exchange.body_digest()?;
        if exchange.head.target == "/chat" {
            exchange
                .write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")?;
            let said = exchange.read_some()?;
            exchange.write(said)?;
            exchange.await_close();
            return Ok(After::Close);
        }
        exchange.answer("done").map(|()| After::KeepAlive)
    });
    let keys = "max_connections = 1\nmax_queue = 100\nqueue_timeout_ms = 600000";
    let builder = Proxy::builder().workers(1).setting("max_buffers = 16");
    let proxy = builder.cluster_with("a", keys, HOST, &[backend.address()]).start();
    let mut chat = Client::connect(proxy.address());
    chat.send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(chat.read_head().expect("a head").status, 101);
    let mut others: Vec<Client> = (0..30).map(|_| ask(proxy.address(), "/")).collect();
    // A quarter and a sixteenth of the buffers are not for requests.
    let mut command = proxy.command();
    await_true("those that wait hold all buffers", || command.metric("buffer.in_use") >= 11);
    // What is said needs a buffer of those that wait for the end of the chat.
    chat.send("hi");
    assert_eq!(chat.read_some().expect("an echo"), b"hi");
    drop(chat);
    let statuses: Vec<u16> = others.iter_mut().map(|client| answer_of(client).status()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(served > 0 && served + refused == others.len(), "{statuses:?}");
    assert!(refused > 0, "there was room for all: the test tests nothing");
    assert_eq!(usize::try_from(command.metric("queue.evicted")).ok(), Some(refused));
    check_nothing_is_counted(&proxy);
    proxy.stop();
}

#[test]
fn tcp_connections_wait_too() {
    let backend = TcpBackend::echo("hello");
    let listener = free_address();
    let tables = format!(
        "[[listeners]]\nprotocol = \"tcp\"\naddress = \"{listener}\"\n\
         [clusters.a]\nprotocol = \"tcp\"\nmax_connections = 2\nmax_queue = 1\nqueue_timeout_ms = 60000\n\
         frontends = [{{ address = \"{listener}\" }}]\nbackends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().workers(2).without_listener().tables(&tables).start();
    let mut within: Vec<_> = (0..2).map(|_| TcpClient::connect(listener)).collect();
    for client in &mut within {
        client.hears("hello");
    }
    let mut waits = TcpClient::connect(listener);
    await_metric(&proxy, "queue.size", 1);
    assert_eq!(TcpClient::connect(listener).rest(), b"", "closed at once: the queue is full");
    assert_eq!(proxy.command().metric("queue.full"), 1);
    assert_eq!(backend.accepted(), 2);
    within.pop();
    waits.hears("hello");
    waits.says("it is my turn");
    drop((within, waits));
    await_value("everything is over", || (backend.open() == 0).then_some(()));
    check_nothing_is_counted(&proxy);
    proxy.stop();
}
