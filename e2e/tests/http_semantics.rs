//! HTTP/1.1 through the proxy: what clients and backends may do, and what each then sees.

use kakehi_e2e::Proxy;
use kakehi_e2e::content::SeededContent;
use kakehi_e2e::http::{After, Backend, Client, Framing, get};

/// A proxy with one worker, so that the pool of back connections is one, and one cluster.
fn proxy_for(backend: &Backend) -> Proxy {
    Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start()
}

#[test]
fn connections_are_kept_alive_on_both_sides_and_the_back_ones_shared() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    for _client in 0..5 {
        let mut client = Client::connect(proxy.address());
        for _request in 0..20 {
            let response = client.get("a.test", "/");
            assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
            assert!(!response.head.closes());
        }
    }
    assert_eq!(backend.accepted(), 1, "five clients, one after the other, share one back connection");
}

#[test]
fn client_asking_for_close_gets_it() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.status(), 200);
    assert!(response.head.closes());
    client.expect_close();
}

#[test]
fn half_closed_client_still_gets_its_response() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.finish_sending();
    assert_eq!(client.response("GET").text(), "hello");
    client.expect_close();
}

#[test]
fn backend_that_closes_after_some_requests_is_not_noticed() {
    // It does not announce it: the proxy finds its pooled connection gone, or dying.
    let backend = Backend::start(|exchange| {
        exchange.answer("hello")?;
        Ok(if exchange.index == 2 { After::Close } else { After::KeepAlive })
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for request in 0..200 {
        let response = client.get("a.test", "/");
        assert_eq!(response.status(), 200, "request {request}: {}", response.text());
    }
}

#[test]
fn backend_asking_for_close_is_not_reused() {
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let backend = Backend::raw(response, After::KeepAlive);
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for _ in 0..5 {
        let response = client.get("a.test", "/");
        assert_eq!(response.text(), "ok");
        assert!(!response.head.closes(), "the backend's close is none of the client's business");
    }
    assert_eq!(backend.accepted(), 5);
}

#[test]
fn head_has_no_body_whatever_its_length_says() {
    let backend = Backend::start(|exchange| {
        if exchange.head.method == "HEAD" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")?;
        } else {
            exchange.answer("hello")?;
        }
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let response = client.response("HEAD");
    assert_eq!(response.field("Content-Length"), Some("12345"));
    assert_eq!(client.get("a.test", "/").text(), "hello");
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn statuses_without_a_body_keep_the_connection() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n",
    ] {
        let backend = Backend::raw(head, After::KeepAlive);
        let proxy = proxy_for(&backend);
        let mut client = Client::connect(proxy.address());
        for _ in 0..3 {
            let response = client.get("a.test", "/");
            assert!(head.contains(&response.status().to_string()), "{head:?}");
            assert_eq!(response.framing, Framing::None);
        }
        assert_eq!(backend.accepted(), 1, "{head:?}");
    }
}

#[test]
fn informational_responses_pass_on() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        After::KeepAlive,
    );
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for _ in 0..2 {
        let response = client.get("a.test", "/");
        assert_eq!(response.text(), "ok");
        let statuses: Vec<u16> = response.head.informational.iter().map(|head| head.0).collect();
        assert_eq!(statuses, [103, 102]);
        assert_eq!(response.head.informational[0].1.get("Link"), Some("</style.css>; rel=preload"));
    }
    // RFC 9110 §15.2: never to a client that does not know them.
    let mut old = Client::connect(proxy.address());
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let response = old.response("GET");
    assert_eq!((response.text().as_str(), response.head.informational.len()), ("ok", 0));
}

#[test]
fn expect_continue_is_answered_before_the_body_is_sent() {
    let backend = Backend::start(|exchange| {
        let (body, _) = exchange.body()?;
        exchange.answer(&String::from_utf8_lossy(&body))?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let interim = client.read_head().expect("100 comes without the body");
        assert_eq!(interim.status, 100);
        client.send("12345");
        assert_eq!(client.response("POST").text(), "12345");
    }
}

#[test]
fn expectation_refused_by_the_backend_reaches_the_client() {
    let backend = Backend::start(|exchange| {
        exchange
            .write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")?;
        Ok(After::Close)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n");
    let (head, framing) = client.try_head("POST").expect("a final response");
    assert_eq!(head.status, 413);
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("the whole body");
    assert_eq!(body, b"no!");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|exchange| {
        let (body, _) = exchange.body()?;
        let target = exchange.head.target.clone();
        exchange.answer(&format!("{target} {}", String::from_utf8_lossy(&body)))?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    let requests: String = (0..50)
        .map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody"),
            _ => format!(
                "PUT /{n} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            ),
        })
        .collect();
    client.send(requests);
    for n in 0..50 {
        let response = client.response("GET");
        let body = if n % 3 == 0 { "" } else { "body" };
        assert_eq!((response.status(), response.text()), (200, format!("/{n} {body}")));
    }
}

#[test]
fn request_may_come_byte_by_byte() {
    let backend = Backend::start(|exchange| {
        let (body, _) = exchange.body()?;
        exchange.answer(&String::from_utf8_lossy(&body))?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response("POST").text(), "abcde");
}

#[test]
fn http_10_client_gets_a_body_it_can_read() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let backend = Backend::raw(chunked, After::KeepAlive);
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.text(), "abcde");
    assert_ne!(response.framing, Framing::Chunked, "HTTP/1.0 does not know chunks");
}

#[test]
fn http_10_client_may_ask_for_keep_alive() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response("GET");
        assert_eq!(response.text(), "hello");
        assert!(response.head.fields.has_token("Connection", "keep-alive"), "{:?}", response.head);
    }
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "hello");
    client.expect_close();
}

#[test]
fn body_that_ends_with_the_connection_is_complete() {
    let content = SeededContent::bytes(1, 300_000);
    let mut message = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\n\r\n".to_vec();
    message.extend_from_slice(&content);
    let backend = Backend::raw(message, After::Close);
    let proxy = proxy_for(&backend);
    let response = get(proxy.address(), "a.test", "/");
    assert_eq!(response.status(), 200);
    assert!(response.body == content, "{} bytes of {}", response.body.len(), content.len());
}

#[test]
fn chunks_pass_in_both_directions_with_their_trailers() {
    let backend = Backend::start(|exchange| {
        let (body, trailers) = exchange.body()?;
        let sum = trailers.get("X-Sum").unwrap_or("none").to_owned();
        exchange.write(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             {:x}\r\n{}\r\n0\r\nX-Sum: {sum}\r\n\r\n",
            body.len(),
            String::from_utf8_lossy(&body)
        ))?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    for _ in 0..3 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             5;quality=\"high\"\r\nhello\r\n00006\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
        );
        let response = client.response("POST");
        assert_eq!(response.framing, Framing::Chunked);
        assert_eq!(response.text(), "hello world");
        assert_eq!(response.trailers.get("X-Sum"), Some("11"));
    }
}

#[test]
fn forbidden_trailers_do_not_reach_the_backend() {
    let backend = Backend::start(|exchange| {
        let (_, trailers) = exchange.body()?;
        let names: Vec<String> = trailers.0.iter().map(|field| field.0.to_ascii_lowercase()).collect();
        exchange.answer(&names.join(","))?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
         X-Good: 1\r\nContent-Length: 5\r\nHost: evil.test\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Authorization: Basic eDp5\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(client.response("POST").text(), "x-good");
}

#[test]
fn response_may_start_before_the_request_has_ended() {
    // The backend answers on the head, then reads the body: neither side may wait for the other.
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")?;
        exchange.body_digest()?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut client = Client::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    let (head, framing) = client.try_head("POST").expect("the early response");
    assert_eq!(head.status, 200);
    let mut body = Vec::new();
    client.stream_body(framing, |piece| body.extend_from_slice(piece)).expect("its body");
    assert_eq!(body, b"early");
}

#[test]
fn response_cut_by_the_backend_is_cut_for_the_client() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let backend = Backend::raw(response, After::Close);
        let proxy = proxy_for(&backend);
        let mut client = Client::connect(proxy.address());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let result = client.try_response("GET");
        assert!(result.is_err(), "a cut response looked complete: {result:?}");
    }
}

#[test]
fn client_that_leaves_takes_its_back_connection_along_but_no_other() {
    let backend = Backend::start(|exchange| {
        if exchange.head.target == "/hang" {
            exchange.await_close();
            return Ok(After::Close);
        }
        exchange.answer("hello")?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let mut staying = Client::connect(proxy.address());
    assert_eq!(staying.get("a.test", "/").text(), "hello");
    let mut leaving = Client::connect(proxy.address());
    leaving.send("GET /hang HTTP/1.1\r\nHost: a.test\r\n\r\n");
    while backend.next_request().target != "/hang" {}
    drop(leaving);
    kakehi_e2e::deadline::await_true("the hanging request's back connection closes", || backend.open() <= 1);
    assert_eq!(staying.get("a.test", "/").text(), "hello");
}
