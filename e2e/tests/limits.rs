//! At each limit: an answer, a metric, and recovery; never a stall and never growth.

use std::time::Duration;

use kakehi_e2e::Proxy;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, Client, ReadError, get};

#[test]
fn connections_beyond_the_maximum_do_not_disturb_those_within() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_connections = 4")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut within: Vec<Client> = (0..4).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut within {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    // Refused by 503, closed, or left waiting: not served, and nobody else is worse off.
    let mut beyond: Vec<Client> = (0..20).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut beyond {
        client.set_patience(Duration::from_millis(50));
        let served = client
            .try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .and_then(|()| client.try_response("GET"))
            .is_ok_and(|response| response.status() == 200);
        assert!(!served, "more connections than the maximum");
    }
    for client in &mut within {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    drop(beyond);
    drop(within);
    await_true("the proxy serves again", || served(&proxy));
}

fn served(proxy: &Proxy) -> bool {
    let attempt = || -> Result<u16, ReadError> {
        let mut client = Client::try_connect(proxy.address())?;
        client.set_patience(Duration::from_secs(1));
        client.try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
        Ok(client.try_response("GET")?.status())
    };
    attempt().is_ok_and(|status| status == 200)
}

#[test]
fn refused_connections_are_counted() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_connections = 2")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut command = proxy.command();
    assert_eq!(command.metric("listener.connection_capped"), 0);
    let mut within: Vec<Client> = (0..2).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut within {
        client.get("a.test", "/");
    }
    let _beyond = Client::connect(proxy.address());
    await_true("the refusal is counted", || command.metric("listener.connection_capped") > 0);
}

#[test]
fn buffers_run_out_without_a_stall_and_come_back() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_buffers = 8")
        .setting("request_timeout = 2")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    // Idle connections hold none.
    let mut idle: Vec<Client> = (0..50).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut idle {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    // Heads that never end hold one each, as long as they may.
    let mut begun: Vec<Client> = (0..50).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut begun {
        client.send("GET / HTTP/1.1\r\nHost: a.t");
    }
    let mut command = proxy.command();
    assert!(command.metric("buffer.in_use") <= 8);
    for client in &mut begun {
        // 408 for those that had a buffer, 503 or a close for those that had none.
        match client.try_response("GET") {
            Ok(response) => assert!(matches!(response.status(), 408 | 503), "{}", response.status()),
            Err(ReadError::TimedOut(_)) => panic!("a connection without a buffer was forgotten"),
            Err(_) => {}
        }
    }
    await_true("the buffers are given back", || command.metric("buffer.in_use") == 0);
    for client in &mut idle {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
}

#[test]
fn field_limit_is_configurable() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_header_fields = 20")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    for (count, status) in [(19, 200), (20, 431)] {
        // With Host, one more.
        let fields: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        let mut client = Client::connect(proxy.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        assert_eq!(client.response("GET").status(), status, "{count} fields and Host");
    }
}

#[test]
fn buffer_size_is_the_limit_of_a_head() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("buffer_size = 32768")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let head = |len: usize| format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(len));
    let mut client = Client::connect(proxy.address());
    client.send(head(30_000));
    assert_eq!(client.response("GET").status(), 200);
    let _cut = client.try_send(head(33_000).as_bytes());
    assert_eq!(client.response("GET").status(), 431);
}

#[test]
fn back_connections_kept_idle_are_bounded() {
    let backend = Backend::start(|exchange| {
        kakehi_e2e::deadline::run_for(Duration::from_millis(100));
        exchange.answer("hello")?;
        Ok(kakehi_e2e::http::After::KeepAlive)
    });
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_idle_back_connections = 2")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response("GET").status(), 200);
    }
    await_true("only two are kept", || backend.open() == 2);
}

#[test]
fn idle_back_connections_end_in_time() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("back_idle_timeout = 1")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    assert_eq!(backend.open(), 1);
    await_true("the pooled connection is closed", || backend.open() == 0);
}
