//! Requests a second: by source, host and header, of listeners and clusters, exact over all workers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use kakehi_e2e::Proxy;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, Client, Response};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};

fn source(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 9, last)
}

fn ask_from(from: Ipv4Addr, proxy: SocketAddr, host: &str) -> Response {
    Client::connect_from(from, proxy).get(host, "/")
}

/// A request with a key, on a connection of its own.
fn ask_with(proxy: SocketAddr, host: &str, key: &str) -> u16 {
    let mut client = Client::connect(proxy);
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Key: {key}\r\n\r\n"));
    client.response("GET").status()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]
fn a_flood_of_one_source_is_cut_to_its_rate_over_all_workers() {
    const RATE: usize = 20;
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(3)
        .listener_setting("rate_limits = [{ key = \"source\", rate = 20, burst = 10 }]")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let begun = Instant::now();
    let mut served = 0;
    for _ in 0..200 {
        let response = ask_from(source(1), proxy.address(), "a.test");
        match response.status() {
            200 => served += 1,
            429 => assert_eq!(response.field("retry-after"), Some("1")),
            other => panic!("{other}"),
        }
    }
    let most = 10 + RATE * (usize::try_from(begun.elapsed().as_millis()).expect("small") + 1000) / 1000;
    assert!((10..=most).contains(&served), "{served} of at most {most}");
    // Others are served, each within its own rate.
    for last in 2..50 {
        assert_eq!(ask_from(source(last), proxy.address(), "a.test").status(), 200);
    }
    let mut command = proxy.command();
    assert_eq!(command.metric("rate_limit.listener"), 200 - i64::try_from(served).expect("small"));
    assert_eq!(command.metric("limits.uncounted"), 0);
    await_true("a token has come", || ask_from(source(1), proxy.address(), "a.test").status() == 200);
    proxy.stop();
}

#[test]
fn a_connection_goes_on_after_it() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .listener_setting("rate_limits = [{ key = \"source\", rate = 1, burst = 3 }]")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut client = Client::connect(proxy.address());
    let answers: Vec<_> = (0..6).map(|_| client.get("a.test", "/").status()).collect();
    assert_eq!(answers[..3], [200; 3]);
    assert!(answers[3..].contains(&429), "{answers:?}");
    // What nobody routes counts as well.
    assert!((0..4).map(|_| client.get("no.test", "/").status()).any(|status| status == 429));
    await_true("it is served again", || client.get("a.test", "/").status() == 200);
    proxy.stop();
}

#[test]
fn hosts_and_headers_have_rates_of_their_own() {
    let backend = Backend::named("hello");
    let limits = "rate_limits = [{ key = \"header:X-Key\", rate = 1, burst = 2 }]\n\
                  answers = { \"429\" = \"HTTP/1.1 429 Slow\\r\\nRetry-After: %RETRY_AFTER\\r\\n\\r\\nof %CLUSTER_ID\" }";
    let proxy = Proxy::builder()
        .listener_setting("rate_limits = [{ key = \"host\", rate = 1, burst = 5 }]")
        .cluster_with("keyed", limits, &["hostname = \"keyed.test\""], &[backend.address()])
        .cluster("b", "b.test", &[backend.address()])
        .cluster("c", "c.test", &[backend.address()])
        .start();
    let address = proxy.address();
    let statuses: Vec<_> = (0..4).map(|_| ask_with(address, "keyed.test", "one")).collect();
    assert_eq!(statuses[..2], [200; 2]);
    assert!(statuses[2..].contains(&429), "{statuses:?}");
    assert_eq!(ask_with(address, "keyed.test", "two"), 200, "another key");
    // The host's own limit, from wherever and however it is written.
    let of_host: Vec<_> = (0..12)
        .map(|at: u8| {
            ask_from(source(at + 1), address, ["b.test", "B.Test", "b.test:80"][usize::from(at % 3)])
        })
        .collect();
    let refused = of_host.iter().filter(|response| response.status() == 429).count();
    assert!((4..=7).contains(&refused), "{refused}");
    assert_eq!(ask_from(source(1), address, "c.test").status(), 200, "another host");
    let mut command = proxy.command();
    assert!(command.metric("rate_limit.cluster") >= 1);
    assert!(command.count_of("keyed", "rate_limit.cluster") >= 1);
    assert_eq!(command.metric("rate_limit.listener"), i64::try_from(refused).expect("small"));
    proxy.stop();
}

#[test]
fn without_the_header_nothing_is_counted_and_the_template_tells_when() {
    let backend = Backend::named("hello");
    let limits = "rate_limits = [{ key = \"header:X-Key\", rate = 1 }]\n\
                  answers = { \"429\" = \"HTTP/1.1 429 Slow\\r\\nRetry-After: %RETRY_AFTER\\r\\n\\r\\nof %CLUSTER_ID\" }";
    let proxy = Proxy::builder()
        .cluster_with("keyed", limits, &["hostname = \"a.test\""], &[backend.address()])
        .start();
    let mut client = Client::connect(proxy.address());
    assert!((0..20).all(|_| client.get("a.test", "/").status() == 200));
    let refused = (0..20).find_map(|_| {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Key: k\r\n\r\n");
        Some(client.response("GET")).filter(|response| response.status() == 429)
    });
    let refused = refused.expect("one of twenty is beyond");
    assert_eq!((refused.field("retry-after"), refused.text().as_str()), (Some("1"), "of keyed"));
    proxy.stop();
}

#[test]
fn rates_change_while_it_runs_and_are_kept() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let (cli, address) = (proxy.cli(), proxy.address().to_string());
    let refused = || (0..10).any(|_| ask_from(source(1), proxy.address(), "a.test").status() == 429);
    assert!(!refused());
    cli.ok(&["listener", "http", "update", "-a", &address, "--rate-limit", "source=1/2"]);
    assert!(refused());
    let file = proxy.directory().join("state");
    cli.ok(&["state", "save", "-f", file.to_str().expect("text")]);
    let saved = std::fs::read_to_string(&file).expect("it was written");
    assert!(
        saved.contains("\"rate_limits\":{\"values\":[{\"key\":\"source\",\"rate\":1,\"burst\":2}]}"),
        "{saved}"
    );
    cli.ok(&["listener", "http", "update", "-a", &address, "--no-rate-limits"]);
    assert!(!refused());
    let told = cli.refused(&["listener", "http", "update", "-a", &address, "--rate-limit", "path=1"]);
    assert!(told.contains("`path` is none of source, host and header:NAME"), "{told}");
    proxy.stop();
}

#[test]
fn tcp_connections_beyond_are_closed() {
    let backend = TcpBackend::echo("b");
    let (of_listener, of_cluster) = (free_address(), free_address());
    let tables = format!(
        "[[listeners]]\naddress = \"{of_listener}\"\nprotocol = \"tcp\"\n\
         rate_limits = [{{ key = \"source\", rate = 1, burst = 3 }}]\n\
         [[listeners]]\naddress = \"{of_cluster}\"\nprotocol = \"tcp\"\n\
         [clusters.t]\nprotocol = \"tcp\"\nfrontends = [{{ address = \"{of_listener}\" }}]\n\
         backends = [{{ address = \"{0}\" }}]\n\
         [clusters.u]\nprotocol = \"tcp\"\nfrontends = [{{ address = \"{of_cluster}\" }}]\n\
         rate_limits = [{{ key = \"source\", rate = 1, burst = 3 }}]\nbackends = [{{ address = \"{0}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().without_listener().tables(&tables).start();
    let mut command = proxy.command();
    for (address, metric) in [(of_listener, "rate_limit.listener"), (of_cluster, "rate_limit.cluster")] {
        for _ in 0..3 {
            let mut client = TcpClient::connect(address);
            client.hears("b");
            client.says("served");
        }
        let mut closed = 0;
        for _ in 0..10 {
            let mut client = TcpClient::connect(address);
            client.finish();
            closed += i64::from(client.rest().is_empty());
        }
        assert!(closed >= 5, "{closed}");
        assert_eq!(command.metric(metric), closed);
    }
    proxy.stop();
}
