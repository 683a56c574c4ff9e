//! Floods, of connections and of requests, from one address and from hundreds: those who were served are served on, and
//! those who come are served, too. On HTTP listeners and on TCP listeners.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use kakehi_e2e::Proxy;
use kakehi_e2e::address::free_address;
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::{Backend, Client, ReadError};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Addresses that take part in a flood from many.
const MANY: usize = 250;

/// Connections of a flood at most: it is bounded, whatever becomes of it.
const FLOOD_MAX: usize = 6_000;

/// Connections that a flood holds open at a time, of all its threads.
const HELD: usize = 600;

fn honest(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 1, u8::try_from(number % 250 + 1).expect("small"))
}

/// What each connection of a flood does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Asks once, and stays.
    Stays,
    /// Sends half a head, and stays.
    Half,
    /// Asks as often as it can, and makes room for the next.
    Asks,
}

/// Connections in plenty, from so many addresses, until it is stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(to: SocketAddr, sources: usize, kind: Kind) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        const THREADS: usize = 2;
        let threads = (0..THREADS).map(|_| {
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            std::thread::spawn(move || {
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    if number >= FLOOD_MAX {
                        return;
                    }
                    let last = u8::try_from(number % sources + 1).expect("small");
                    let mut client = Client::connect_from(Ipv4Addr::new(127, 6, 6, last), to);
                    if attack(&mut client, kind).is_ok() && kind != Kind::Asks {
                        held.push(client);
                    }
                    if held.len() > HELD / THREADS {
                        held.remove(0);
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, made, threads }
    }

    fn await_made(&self, count: usize) {
        await_true("the flood is there", || self.made.load(Ordering::Relaxed) >= count);
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it takes what comes"));
    }
}

fn attack(client: &mut Client, kind: Kind) -> Result<(), ReadError> {
    match kind {
        Kind::Half => client.try_send(&REQUEST[..20]),
        Kind::Stays => client.try_send(REQUEST).and_then(|()| client.try_response("GET").map(drop)),
        Kind::Asks => (0..20).try_for_each(|_| {
            client.try_send(REQUEST)?;
            client.try_response("GET").map(drop)
        }),
    }
}

/// Those who were there before are served, and whoever comes.
fn assert_others_are_served(address: SocketAddr, before: &mut [Client], what: &str) {
    for round in 0..60 {
        for client in before.iter_mut() {
            assert_eq!(client.get("a.test", "/").status(), 200, "{what}: who was there");
        }
        let mut new = Client::connect_from(honest(round), address);
        assert_eq!(new.get("a.test", "/").status(), 200, "{what}: who came as number {round}");
        run_for(std::time::Duration::from_millis(5));
    }
}

fn served_before(address: SocketAddr) -> Vec<Client> {
    let mut clients: Vec<_> =
        (200..205).map(|number| Client::connect_from(honest(number), address)).collect();
    assert!(clients.iter_mut().all(|client| client.get("a.test", "/").status() == 200));
    clients
}

fn check(proxy: &Proxy, address: SocketAddr, sources: usize, kind: Kind, metric: &str) {
    let what = format!("{kind:?} from {sources}");
    let mut before = served_before(address);
    let flood = Flood::start(address, sources, kind);
    let mut command = proxy.command();
    await_true(&format!("{what}: {metric} tells of it"), || command.metric(metric) > 0);
    assert_others_are_served(address, &mut before, &what);
    flood.stop();
    drop(before);
    await_true("all are gone", || command.metric("client.connections") == 0);
    assert_eq!(command.metric("buffer.in_use"), 0, "{what}");
    assert_eq!(command.metric("panic"), 0, "{what}");
}

#[test]
fn one_address_with_connections_and_requests() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("max_connections = 300")
        .listener_setting("max_connections_per_source = 20")
        .listener_setting("rate_limits = [{ key = \"source\", rate = 50, burst = 250 }]")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    check(&proxy, proxy.address(), 1, Kind::Stays, "listener.over_source");
    check(&proxy, proxy.address(), 1, Kind::Half, "listener.over_source");
    check(&proxy, proxy.address(), 1, Kind::Asks, "rate_limit.listener");
    proxy.stop();
}

#[test]
fn hundreds_of_addresses_with_connections_and_requests() {
    let backend = Backend::named("hello");
    // What stays makes room; what asks is one network.
    let proxy = Proxy::builder()
        .setting("max_connections = 150")
        .setting("evict_on_queue_full = true")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let flood = Flood::start(proxy.address(), MANY, Kind::Stays);
    flood.await_made(HELD);
    // Nobody keeps an idle connection here, and everybody gets a new one.
    assert_others_are_served(proxy.address(), &mut [], "idle connections of 250");
    assert!(proxy.command().metric("sessions.evicted") > 0);
    flood.stop();
    proxy.stop();
    let proxy = Proxy::builder()
        .setting("subnet_ipv4_prefix = 24")
        .listener_setting("rate_limits = [{ key = \"source\", rate = 100, burst = 500 }]")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    check(&proxy, proxy.address(), MANY, Kind::Asks, "rate_limit.listener");
    proxy.stop();
}

/// Half a head can't be told from a slow client until its time is over: the time is what bounds them.
#[test]
fn half_heads_of_hundreds_of_addresses() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .setting("max_connections = 1000")
        .listener_setting("request_timeout = 1")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    check(&proxy, proxy.address(), MANY, Kind::Half, "http.close.request_incomplete");
    proxy.stop();
}

#[test]
fn tcp_listeners_too() {
    let backend = Backend::named("hello");
    let (one, many) = (free_address(), free_address());
    let tables = format!(
        "[[listeners]]\naddress = \"{one}\"\nprotocol = \"tcp\"\nmax_connections_per_source = 20\n\
         [[listeners]]\naddress = \"{many}\"\nprotocol = \"tcp\"\n\
         rate_limits = [{{ key = \"source\", rate = 50, burst = 400 }}]\n\
         [clusters.t]\nprotocol = \"tcp\"\nfrontends = [{{ address = \"{one}\" }}, {{ address = \"{many}\" }}]\n\
         backends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy =
        Proxy::builder().without_listener().setting("subnet_ipv4_prefix = 24").tables(&tables).start();
    check(&proxy, one, 1, Kind::Stays, "listener.over_source");
    check(&proxy, one, 1, Kind::Half, "listener.over_source");
    check(&proxy, many, MANY, Kind::Stays, "rate_limit.listener");
    check(&proxy, many, MANY, Kind::Asks, "rate_limit.listener");
    proxy.stop();
}
