//! Limits of handshakes and records: what is past them is refused at once, and who is served already stays served.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use kakehi_command::proto::HttpsListenerConfig;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::await_value;
use kakehi_e2e::http::Backend;
use kakehi_e2e::tls::{Authority, TlsClient, connect_from};
use kakehi_e2e::{Proxy, requests};

/// A fatal `internal_error`, in the clear.
const REFUSED: [u8; 7] = [21, 3, 1, 0, 2, 2, 80];

struct Site {
    proxy: Proxy,
    address: SocketAddr,
    authority: Authority,
    _backend: Backend,
}

fn site(settings: &str, per_source: Option<u32>) -> Site {
    site_with(settings, |listener| listener.max_handshakes_per_source = per_source)
}

fn site_with(settings: &str, set: impl FnOnce(&mut HttpsListenerConfig)) -> Site {
    let proxy = Proxy::builder().workers(1).without_listener().setting(settings).start();
    let mut command = proxy.command();
    let address = free_address();
    let authority = Authority::default();
    let backend = Backend::named("a");
    let mut listener = requests::https_listener(address);
    set(&mut listener);
    command.ok(RequestType::AddHttpsListener(listener));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(authority.issue(&["a.test"]).add(address));
    Site { proxy, address, authority, _backend: backend }
}

impl Site {
    fn metric(&self, name: &str) -> i64 {
        self.proxy.command().metric(name)
    }
}

/// What a connection is told that sends nothing; empty: nothing, and it stays open.
fn told(mut socket: &TcpStream) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
    let mut bytes = Vec::new();
    let _cut = socket.read_to_end(&mut bytes);
    bytes
}

#[test]
fn handshakes_past_the_limit_are_refused_and_those_served_stay() {
    let site = site("max_handshakes = 8", Some(0));
    let mut served = site.authority.client().connect(site.address, "a.test").expect("the first");
    // Its handshake is over for the proxy, too.
    assert_eq!(served.get("a.test", "/").expect("an answer").text(), "a");
    let idle: Vec<_> =
        (0..8).map(|_| connect_from(Ipv4Addr::LOCALHOST, site.address).expect("accepted")).collect();
    await_value("eight handshakes", || (site.metric("protocol.tls.handshake") == 8).then_some(()));
    let refused = connect_from(Ipv4Addr::LOCALHOST, site.address).expect("accepted");
    assert_eq!(told(&refused), REFUSED);
    assert_eq!(site.metric("tls.handshakes.capped"), 1);
    assert_eq!(served.get("a.test", "/").expect("an answer").text(), "a");
    drop(idle);
    await_value("none", || (site.metric("protocol.tls.handshake") == 0).then_some(()));
    assert!(site.authority.client().connect(site.address, "a.test").is_ok());
    site.proxy.stop();
}

#[test]
fn one_source_does_not_take_all() {
    let site = site("max_handshakes = 64", Some(4));
    let (greedy, other) = (Ipv4Addr::new(127, 9, 9, 1), Ipv4Addr::new(127, 9, 9, 2));
    let idle: Vec<_> = (0..4).map(|_| connect_from(greedy, site.address).expect("accepted")).collect();
    await_value("four handshakes", || (site.metric("protocol.tls.handshake") == 4).then_some(()));
    let refused = connect_from(greedy, site.address).expect("accepted");
    assert_eq!(told(&refused), REFUSED);
    assert_eq!(site.metric("tls.handshakes.capped_by_source"), 1);
    let socket = connect_from(other, site.address).expect("accepted");
    let mut client =
        TlsClient::over(&site.authority.client().config(), socket, "a.test").expect("another one");
    assert_eq!(client.get("a.test", "/").expect("an answer").text(), "a");
    drop(idle);
    site.proxy.stop();
}

#[test]
fn a_listener_s_connections_and_those_of_one_source_are_limited_before_the_handshake() {
    let site = site_with("", |listener| {
        listener.max_connections = Some(5);
        listener.max_connections_per_source = Some(3);
    });
    let config = site.authority.client().config();
    let (greedy, other) = (Ipv4Addr::new(127, 9, 8, 1), Ipv4Addr::new(127, 9, 8, 2));
    let served = |source| {
        let socket = connect_from(source, site.address).expect("accepted");
        let mut client = TlsClient::over(&config, socket, "a.test").expect("within the limits");
        assert_eq!(client.get("a.test", "/").expect("an answer").text(), "a");
        client
    };
    let mut of_greedy: Vec<_> = (0..3).map(|_| served(greedy)).collect();
    assert_eq!(told(&connect_from(greedy, site.address).expect("accepted")), REFUSED);
    assert_eq!(site.metric("listener.over_source"), 1);
    let of_other: Vec<_> = (0..2).map(|_| served(other)).collect();
    assert_eq!(told(&connect_from(other, site.address).expect("accepted")), REFUSED);
    assert_eq!(site.metric("listener.over_connections"), 1);
    // Who is served stays served, and a place that is left is another's.
    for client in &mut of_greedy {
        assert_eq!(client.get("a.test", "/").expect("an answer").text(), "a");
    }
    drop(of_other);
    await_value("places", || (site.metric("client.connections") == 3).then_some(()));
    drop(served(other));
    site.proxy.stop();
}

#[test]
fn half_records_give_way_to_those_who_need_their_buffers() {
    let site = site("max_record_buffers = 4", None);
    let config = site.authority.client().config();
    let half: Vec<_> = (0..6)
        .map(|_| {
            let client = TlsClient::connect(&config, site.address, "a.test").expect("served in time");
            // The beginning of a record that never ends.
            client.socket().write_all(&[23, 3, 3, 1, 0, 1, 2, 3]).expect("room");
            client
        })
        .collect();
    let mut last = TlsClient::connect(&config, site.address, "a.test").expect("served in time");
    assert_eq!(last.get("a.test", "/").expect("an answer").text(), "a");
    assert!(site.metric("tls.records.evicted") >= 1);
    drop(half);
    site.proxy.stop();
}
