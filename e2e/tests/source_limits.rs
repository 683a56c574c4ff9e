//! Limits of connections of one source: exact over all workers, also after one of them was killed.

use std::net::{Ipv4Addr, SocketAddr};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, await_value};
use kakehi_e2e::http::{Backend, Client, Response};
use kakehi_e2e::tcp::{TcpBackend, TcpClient};
use kakehi_e2e::{Proxy, await_replaced, send_signal};
use nix::sys::signal::Signal;

fn source(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, last)
}

/// A connection from there with its first answer.
fn ask(from: Ipv4Addr, proxy: SocketAddr, host: &str) -> (Client, Response) {
    let mut client = Client::connect_from(from, proxy);
    let response = client.get(host, "/");
    (client, response)
}

/// Connections that are served, until one is not.
fn fill(from: Ipv4Addr, proxy: SocketAddr, host: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    loop {
        match ask(from, proxy, host) {
            (client, response) if response.status() == 200 => clients.push(client),
            (_, response) => {
                assert_eq!(response.status(), 429);
                return clients;
            }
        }
        assert!(clients.len() <= 100, "no limit at all");
    }
}

#[test]
fn one_source_has_so_many_connections_over_all_workers() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(3)
        .setting("max_connections_per_ip = 5")
        .setting("retry_after = 7")
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "b.test", &[backend.address()])
        .start();
    let mut command = proxy.command();
    let mut within = fill(source(1), proxy.address(), "a.test");
    assert_eq!(within.len(), 5);
    // A flood changes nothing for those within, for others, and for other clusters.
    for _ in 0..40 {
        let (mut client, refused) = ask(source(1), proxy.address(), "a.test");
        assert_eq!((refused.status(), refused.field("retry-after")), (429, Some("7")));
        client.expect_close();
    }
    for client in &mut within {
        assert_eq!(client.get("a.test", "/").status(), 200, "it counts once, whatever it asks");
    }
    for last in 2..30 {
        assert_eq!(ask(source(last), proxy.address(), "a.test").1.status(), 200);
    }
    assert_eq!(fill(source(1), proxy.address(), "b.test").len(), 5);
    assert_eq!(command.metric("connections.rejected_per_cluster_ip"), 42);
    assert_eq!(command.count_of("a", "connections.rejected_per_cluster_ip"), 41);
    assert_eq!(command.metric("http.status.429"), 42);
    assert_eq!(command.metric("limits.uncounted"), 0);
    // Each that goes makes room for one.
    within.truncate(3);
    let more = await_value("room for two", || {
        let more = fill(source(1), proxy.address(), "a.test");
        (more.len() == 2).then_some(more)
    });
    assert_eq!(fill(source(1), proxy.address(), "a.test").len(), 0);
    drop((within, more));
    proxy.stop();
}

#[test]
fn the_count_is_exact_after_a_worker_was_killed() {
    const LIMIT: usize = 12;
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(2)
        .setting("max_connections_per_ip = 12")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut clients = fill(source(1), proxy.address(), "a.test");
    assert_eq!(clients.len(), LIMIT);
    for _round in 0..2 {
        let victim = proxy.worker_pids()[0];
        send_signal(victim, Signal::SIGKILL);
        await_replaced(&proxy, victim, 2);
        clients.retain_mut(|client| {
            let sent = client.try_send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            sent.is_ok() && client.try_response("GET").is_ok_and(|response| response.status() == 200)
        });
        let missing = LIMIT - clients.len();
        let new = await_value("as many places as were lost", || {
            let new = fill(source(1), proxy.address(), "a.test");
            assert!(new.len() <= missing, "{} for {missing}", new.len());
            (new.len() == missing).then_some(new)
        });
        clients.extend(new);
        assert_eq!(fill(source(1), proxy.address(), "a.test").len(), 0);
    }
    proxy.stop();
}

#[test]
fn a_network_has_its_own_limit_and_both_must_admit() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("max_connections_per_ip = 3")
        .setting("max_connections_per_subnet = 4")
        .setting("subnet_ipv4_prefix = 24")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let of_first = fill(source(1), proxy.address(), "a.test");
    assert_eq!(of_first.len(), 3);
    let of_second = fill(source(2), proxy.address(), "a.test");
    assert_eq!(of_second.len(), 1);
    assert_eq!(fill(source(3), proxy.address(), "a.test").len(), 0);
    assert_eq!(fill(Ipv4Addr::new(127, 0, 8, 1), proxy.address(), "a.test").len(), 3);
    let mut command = proxy.command();
    assert_eq!(command.metric("connections.rejected_per_cluster_ip"), 2);
    assert_eq!(command.metric("connections.rejected_per_cluster_subnet"), 2);
    proxy.stop();
}

#[test]
fn a_cluster_has_limits_of_its_own() {
    let backend = Backend::named("hello");
    let text = "max_connections_per_ip = 2\nretry_after = 0\nanswers = { \"429\" = \"HTTP/1.1 429 Enough\\r\\n\
                Retry-After: %RETRY_AFTER\\r\\nConnection: close\\r\\n\\r\\nof %CLUSTER_ID\" }";
    let proxy = Proxy::builder()
        .setting("max_connections_per_ip = 1")
        .cluster_with("few", text, &["hostname = \"few.test\""], &[backend.address()])
        .cluster_with("all", "max_connections_per_ip = 0", &["hostname = \"all.test\""], &[backend.address()])
        .start();
    let within = fill(source(1), proxy.address(), "few.test");
    assert_eq!(within.len(), 2);
    let (_, refused) = ask(source(1), proxy.address(), "few.test");
    assert_eq!((refused.status(), refused.field("retry-after")), (429, None));
    assert_eq!(refused.text(), "of few");
    let all: Vec<_> = (0..10).map(|_| ask(source(1), proxy.address(), "all.test")).collect();
    assert!(all.iter().all(|(_, response)| response.status() == 200));
    proxy.stop();
}

#[test]
fn limits_change_at_once_and_who_is_served_stays() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let cli = proxy.cli();
    assert!(cli.ok(&["connection-limit", "show"]).contains("no limit"));
    cli.ok(&["connection-limit", "set", "4"]);
    assert!(cli.ok(&["connection-limit", "show"]).contains("cluster: 4"));
    let mut within = fill(source(1), proxy.address(), "a.test");
    assert_eq!(within.len(), 4);
    cli.ok(&["connection-limit", "set", "2"]);
    for client in &mut within {
        assert_eq!(client.get("a.test", "/").status(), 200, "who is served stays");
    }
    within.truncate(2);
    // Two are left, and two may be: a third is refused, once main's word has come everywhere.
    assert_eq!(fill(source(1), proxy.address(), "a.test").len(), 0);
    // A worker that is started later knows it, and a state file has it.
    let victim = proxy.worker_pids()[0];
    send_signal(victim, Signal::SIGKILL);
    await_replaced(&proxy, victim, 2);
    drop(within);
    await_true("two places are free", || fill(source(1), proxy.address(), "a.test").len() == 2);
    let file = proxy.directory().join("state");
    cli.ok(&["state", "save", "-f", file.to_str().expect("text")]);
    let saved = std::fs::read_to_string(&file).expect("it was written");
    assert!(saved.contains("\"SET_MAX_CONNECTIONS_PER_IP\":2"), "{saved}");
    cli.ok(&["connection-limit", "remove"]);
    let all: Vec<_> = (0..10).map(|_| ask(source(1), proxy.address(), "a.test")).collect();
    assert!(all.iter().all(|(_, response)| response.status() == 200));
    cli.ok(&["subnet-connection-limit", "set", "1"]);
    assert!(cli.ok(&["subnet-connection-limit", "show"]).contains("IPv4: 32 bits"));
    assert_eq!(fill(source(9), proxy.address(), "a.test").len(), 1);
    proxy.command().ok(RequestType::SetMaxConnectionsPerSubnet(0));
    proxy.stop();
}

#[test]
fn a_tcp_connection_beyond_is_closed_before_any_connect() {
    let backend = TcpBackend::echo("b");
    let listener = free_address();
    let tables = format!(
        "[[listeners]]\naddress = \"{listener}\"\nprotocol = \"tcp\"\n[clusters.t]\nprotocol = \"tcp\"\n\
         max_connections_per_ip = 2\nfrontends = [{{ address = \"{listener}\" }}]\n\
         backends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().without_listener().tables(&tables).start();
    let open = || {
        let mut client = TcpClient::connect(listener);
        client.hears("b");
        client
    };
    let mut within = [open(), open()];
    for _ in 0..10 {
        assert_eq!(TcpClient::connect(listener).rest(), b"");
    }
    assert_eq!(backend.accepted(), 2, "no backend heard of them");
    within.iter_mut().for_each(|client| client.says("undisturbed"));
    let mut command = proxy.command();
    assert_eq!(command.metric("connections.rejected_per_cluster_ip"), 10);
    drop(within);
    await_true("they are gone", || command.metric("protocol.tcp") == 0);
    open().says("served again");
    proxy.stop();
}

#[test]
fn what_has_no_room_in_the_table_is_admitted_and_told() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("max_connections_per_ip = 1")
        .setting("max_limit_entries = 8")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let open: Vec<_> = (1..21).map(|last| ask(source(last), proxy.address(), "a.test")).collect();
    assert!(open.iter().all(|(_, response)| response.status() == 200));
    assert_eq!(proxy.command().metric("limits.uncounted"), 12, "a bucket has eight places");
    assert_eq!(ask(source(1), proxy.address(), "a.test").1.status(), 429, "those within are limited");
    proxy.stop();
}
