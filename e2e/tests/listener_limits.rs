//! Limits of a listener's connections: at a time, of one address, and a second; and room for new ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, await_value};
use kakehi_e2e::http::{Backend, Client};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::{Proxy, await_replaced, send_signal};
use nix::sys::signal::Signal;

fn source(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 11, last)
}

/// Connections that are served, until one is answered 503.
fn fill(from: Ipv4Addr, proxy: SocketAddr) -> Vec<Client> {
    let mut clients = Vec::new();
    loop {
        let mut client = Client::connect_from(from, proxy);
        let response = client.get("a.test", "/");
        if response.status() == 503 {
            assert_eq!(response.field("retry-after"), Some("9"));
            client.expect_close();
            return clients;
        }
        assert_eq!(response.status(), 200);
        clients.push(client);
        assert!(clients.len() <= 100, "no limit at all");
    }
}

#[test]
fn a_listener_has_so_many_connections_over_all_workers() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(3)
        .setting("retry_after = 9")
        .listener_setting("max_connections = 7")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut within = fill(source(1), proxy.address());
    assert_eq!(within.len(), 7);
    for last in 2..10 {
        assert_eq!(fill(source(last), proxy.address()).len(), 0);
    }
    assert!(within.iter_mut().all(|client| client.get("a.test", "/").status() == 200));
    assert_eq!(proxy.command().metric("listener.over_connections"), 9);
    // Exact also after a worker died.
    let victim = proxy.worker_pids()[0];
    send_signal(victim, Signal::SIGKILL);
    await_replaced(&proxy, victim, 3);
    within.retain_mut(|client| {
        client.try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
            && client.try_response("GET").is_ok()
    });
    let missing = 7 - within.len();
    let new = await_value("as many places as were lost", || {
        let new = fill(source(1), proxy.address());
        assert!(new.len() <= missing, "{} for {missing}", new.len());
        (new.len() == missing).then_some(new)
    });
    drop((within, new));
    proxy.stop();
}

#[test]
fn one_address_has_so_many_of_them() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("retry_after = 9")
        .listener_setting("max_connections_per_source = 3")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut of_flooder = fill(source(1), proxy.address());
    assert_eq!(of_flooder.len(), 3);
    for last in 2..20 {
        let mut other = Client::connect_from(source(last), proxy.address());
        assert_eq!(other.get("a.test", "/").status(), 200);
    }
    let mut command = proxy.command();
    assert_eq!(command.metric("listener.over_source"), 1);
    of_flooder.truncate(1);
    let again = await_value("room for two", || {
        let again = fill(source(1), proxy.address());
        (again.len() == 2).then_some(again)
    });
    drop(again);
    proxy.stop();
}

#[test]
fn behind_a_proxy_the_address_is_the_one_that_it_names() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .listener_setting("expect_proxy = true")
        .listener_setting("max_connections_per_source = 1")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let open = |last: u8| {
        let mut client = Client::connect(proxy.address());
        client.send(format!("PROXY TCP4 192.0.2.{last} 198.51.100.9 5678 80\r\n"));
        let response = client.get("a.test", "/");
        (client, response.status())
    };
    let (first, of_first) = open(1);
    assert_eq!((of_first, open(1).1, open(2).1), (200, 503, 200));
    drop(first);
    await_true("its place is free", || open(1).1 == 200);
    proxy.stop();
}

#[test]
fn what_is_too_many_may_be_closed_without_a_word() {
    let backend = TcpBackend::echo("b");
    let listener = free_address();
    let tables = format!(
        "[[listeners]]\naddress = \"{listener}\"\nprotocol = \"tcp\"\nmax_connections = 2\n\
         over_limit = \"close\"\n[clusters.t]\nprotocol = \"tcp\"\nfrontends = [{{ address = \"{listener}\" }}]\n\
         backends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().without_listener().tables(&tables).start();
    let open = || {
        let mut client = TcpClient::connect(listener);
        client.hears("b");
        client
    };
    let within = [open(), open()];
    for _ in 0..5 {
        assert_eq!(TcpClient::connect(listener).rest(), b"");
    }
    let mut command = proxy.command();
    assert_eq!(command.metric("listener.over_connections"), 5);
    assert_eq!(backend.accepted(), 2);
    // Changed while it runs.
    let address = listener.to_string();
    proxy.cli().ok(&["listener", "tcp", "update", "-a", &address, "--max-connections", "3"]);
    open().says("served");
    drop(within);
    proxy.stop();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]
fn connections_beyond_the_accept_rate_wait() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(2)
        .listener_setting("max_accept_rate = 20")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let begun = Instant::now();
    let mut clients: Vec<_> = (0..21).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut clients {
        assert_eq!(client.get("a.test", "/").status(), 200, "all of them are served");
    }
    let time = begun.elapsed();
    // Two may come at once, and each worker may have been allowed one before.
    assert!(time >= Duration::from_millis(16 * 50), "{time:?}");
    assert!(proxy.command().metric("listener.accepts_held") > 0);
    proxy.stop();
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let (backend, silent) = (
        Backend::named("hello"),
        TcpBackend::start(|mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop)),
    );
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_connections = 10")
        .setting("evict_on_queue_full = true")
        .cluster("a", "a.test", &[backend.address()])
        .cluster("silent", "silent.test", &[silent.address()])
        .start();
    let mut busy = Client::connect(proxy.address());
    busy.send("GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n");
    await_true("it is with its backend", || silent.accepted() == 1);
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = Client::connect(proxy.address());
        assert_eq!(client.get("a.test", "/").status(), 200);
        clients.push(client);
    }
    let mut command = proxy.command();
    assert_eq!(command.metric("sessions.evicted"), 21, "nine of thirty beside the busy one");
    assert_eq!(command.metric("listener.connection_capped"), 0);
    // Those that were idle for longest went, and nobody that had something to do.
    for client in clients.iter_mut().take(21) {
        client.expect_close();
    }
    for client in clients.iter_mut().skip(21) {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    assert_eq!(silent.open(), 1, "a request is never given up for it");
    proxy.stop();
}

#[test]
fn connects_for_a_request_change_while_it_runs() {
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_connection_attempts = 2")
        .cluster("a", "a.test", &[free_address(), free_address(), free_address()])
        .start();
    let cli = proxy.cli();
    let mut command = proxy.command();
    let mut connects = || {
        let before = command.metric("backend.connections.error");
        assert_eq!(Client::connect(proxy.address()).get("a.test", "/").status(), 503);
        command.metric("backend.connections.error") - before
    };
    assert_eq!(connects(), 2);
    cli.ok(&["connection-attempts", "set", "1"]);
    assert_eq!(connects(), 1);
    let file = proxy.directory().join("state");
    cli.ok(&["state", "save", "-f", file.to_str().expect("text")]);
    let saved = std::fs::read_to_string(&file).expect("it was written");
    assert!(saved.contains("\"SET_MAX_CONNECTION_ATTEMPTS\":1"), "{saved}");
    let told = proxy.command().refused(RequestType::SetMaxConnectionAttempts(256));
    assert!(told.contains("`256` is not from 0 to 255"), "{told}");
    proxy.stop();
}
