//! Front, back, connect and request time-outs, at the shortest the configuration allows: a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kakehi_e2e::Proxy;
use kakehi_e2e::deadline::run_for;
use kakehi_e2e::http::{After, Backend, Client, ReadError, get};

/// A one-second time-out fires after it, and before it could be mistaken for anything else.
#[expect(clippy::disallowed_methods, reason = "a test of time")]
fn expect_one_second<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = action();
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(950), "{what}: early, after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(4), "{what}: late, after {elapsed:?}");
    result
}

/// With one of its time-outs set, and a cluster.
fn proxy(setting: &str, backend: SocketAddr) -> Proxy {
    Proxy::builder().workers(1).setting(setting).cluster("a", "a.test", &[backend]).start()
}

#[test]
fn unfinished_head_is_408() {
    let backend = Backend::named("hello");
    let proxy = proxy("request_timeout = 1", backend.address());
    for begun in ["G", "GET / HTTP/1.1\r\nHost: a.t", "GET / HTTP/1.1\r\nHost: a.test\r\n"] {
        expect_one_second(begun, || {
            let mut client = Client::connect(proxy.address());
            client.send(begun);
            assert_eq!(client.response("GET").status(), 408);
            client.expect_close();
        });
    }
}

#[test]
fn trickled_head_does_not_win_time() {
    let backend = Backend::named("hello");
    let proxy = proxy("request_timeout = 1", backend.address());
    expect_one_second("a byte now and then", || {
        let mut client = Client::connect(proxy.address());
        client.set_patience(Duration::from_millis(100));
        client.send("GET / HTTP/1.1\r\nX: ");
        let answer = loop {
            match client.try_response("GET") {
                Err(ReadError::TimedOut(_)) => client.try_send(b"x").expect("until it is answered"),
                other => break other,
            }
        };
        assert_eq!(answer.expect("an answer").status(), 408);
    });
}

#[test]
fn silent_connection_is_closed() {
    let backend = Backend::named("hello");
    let proxy = proxy("request_timeout = 1", backend.address());
    expect_one_second("nothing sent", || {
        let mut client = Client::connect(proxy.address());
        // With a 408 before or without: nobody asked.
        if let Ok(response) = client.try_response("GET") {
            assert_eq!(response.status(), 408);
            client.expect_close();
        }
    });
}

#[test]
fn idle_keep_alive_connection_is_closed_after_the_front_timeout() {
    let backend = Backend::named("hello");
    let proxy = proxy("front_timeout = 1", backend.address());
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("a.test", "/").status(), 200);
    expect_one_second("idle", || {
        if let Ok(response) = client.try_response("GET") {
            assert_eq!(response.status(), 408);
            client.expect_close();
        }
    });
}

#[test]
fn silent_backend_is_504() {
    let backend = Backend::hanging();
    let proxy = proxy("back_timeout = 1", backend.address());
    expect_one_second("no answer", || {
        let response = get(proxy.address(), "a.test", "/");
        assert_eq!(response.status(), 504, "{}", response.text());
    });
    kakehi_e2e::deadline::await_true("the back connection is closed", || backend.open() == 0);
}

#[test]
fn an_answer_s_head_that_comes_byte_by_byte_has_its_time() {
    let backend = Backend::start(|exchange| {
        for byte in "HTTP/1.1 200 OK\r\nX-Slow: very\r\nContent-Length: 0\r\n\r\n".bytes() {
            exchange.write([byte])?;
            run_for(Duration::from_millis(100));
        }
        Ok(After::Close)
    });
    let proxy = proxy("back_timeout = 1", backend.address());
    expect_one_second("byte by byte", || {
        assert_eq!(get(proxy.address(), "a.test", "/").status(), 504);
    });
}

#[test]
fn backend_that_stalls_within_its_answer_cuts_it() {
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")?;
        exchange.await_close();
        Ok(After::Close)
    });
    let proxy = proxy("back_timeout = 1", backend.address());
    expect_one_second("stalled", || {
        let mut client = Client::connect(proxy.address());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let result = client.try_response("GET");
        assert!(matches!(result, Err(ReadError::Truncated(_) | ReadError::Reset)), "{result:?}");
    });
}

#[test]
fn slow_but_living_backend_is_awaited() {
    // Each piece well within the second; all of them together well beyond it.
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        for _ in 0..5 {
            run_for(Duration::from_millis(400));
            exchange.write("x")?;
        }
        Ok(After::KeepAlive)
    });
    let proxy = proxy("back_timeout = 1", backend.address());
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "xxxxx");
}

#[test]
fn client_that_stalls_within_its_body_is_cut() {
    let backend = Backend::named("hello");
    let proxy = proxy("front_timeout = 1", backend.address());
    expect_one_second("stalled body", || {
        let mut client = Client::connect(proxy.address());
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nsome");
        if let Ok(response) = client.try_response("POST") {
            assert_eq!(response.status(), 408);
        }
    });
    kakehi_e2e::deadline::await_true("the back connection is closed", || backend.open() == 0);
}

#[test]
fn backend_that_does_not_accept_is_503_after_the_connect_timeout() {
    // 192.0.2.0/24 is TEST-NET-1 (RFC 5737): nobody answers, or the network says at once that
    // there is no way; both are a backend that cannot be reached.
    let unreachable = "192.0.2.1:9".parse().expect("an address");
    let proxy = Proxy::builder()
        .workers(1)
        .setting("connect_timeout = 1")
        .setting("max_connection_attempts = 1")
        .cluster("a", "a.test", &[unreachable])
        .start();
    let response = get(proxy.address(), "a.test", "/");
    assert_eq!(response.status(), 503, "{}", response.text());
}
