//! A gibibyte up and a gibibyte down: every byte, at constant memory.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kakehi_e2e::content::{Hasher, SeededContent};
use kakehi_e2e::http::{After, Backend, Client};
use kakehi_e2e::{Proxy, process};

const GIB: u64 = 1 << 30;

/// A worker's memory may not grow by more than this during a transfer. Some pages are touched for
/// the first time; a body that is kept would show at once.
const GROWTH_MAX: u64 = 8 << 20;

/// Watches a process' resident memory until dropped.
struct MemoryWatch {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    before: u64,
}

impl MemoryWatch {
    fn start(pid: u32) -> Self {
        let before = process::resident_bytes(pid).expect("it runs");
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(before)));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&highest));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(process::resident_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                kakehi_e2e::deadline::run_for(std::time::Duration::from_millis(5));
            }
        });
        MemoryWatch { stop, highest, before }
    }

    fn assert_flat(&self, what: &str) {
        let highest = self.highest.load(Ordering::Relaxed);
        println!("{what}: resident bytes {} before, at most {highest}", self.before);
        assert!(highest <= self.before + GROWTH_MAX, "{what}: {} grew to {highest}", self.before);
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn proxy_for(backend: &Backend) -> Proxy {
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    // Memory that is there from the first request on is not the transfer's.
    let mut client = Client::connect(proxy.address());
    client.send("HEAD / HTTP/1.1\r\nHost: unknown.test\r\n\r\n");
    client.response("HEAD");
    proxy
}

fn send_content(client: &Client, seed: u64, len: u64, chunked: bool) {
    let mut stream = client.stream().try_clone().expect("a second handle of the socket");
    let mut content = SeededContent::new(seed);
    let mut piece = vec![0; 64 * 1024];
    for _ in 0..len / (64 * 1024) {
        content.fill(&mut piece);
        if chunked {
            stream.write_all(b"10000\r\n").expect("the proxy takes the body");
        }
        stream.write_all(&piece).expect("the proxy takes the body");
        if chunked {
            stream.write_all(b"\r\n").expect("the proxy takes the body");
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").expect("the proxy takes the body");
    }
}

#[test]
fn one_gibibyte_down() {
    let backend = Backend::large(11, GIB);
    let proxy = proxy_for(&backend);
    let watch = MemoryWatch::start(proxy.worker_pids()[0]);
    let mut client = Client::connect(proxy.address());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (head, framing) = client.try_head("GET").expect("a head");
    assert_eq!(head.status, 200);
    let mut hasher = Hasher::default();
    client.stream_body(framing, |piece| hasher.update(piece)).expect("the whole body");
    assert_eq!(hasher.length(), GIB);
    assert_eq!(hasher.finish(), SeededContent::digest(11, GIB));
    watch.assert_flat("1 GiB down");
}

#[test]
fn one_gibibyte_up() {
    let backend = Backend::large(0, 0);
    let proxy = proxy_for(&backend);
    let watch = MemoryWatch::start(proxy.worker_pids()[0]);
    let mut client = Client::connect(proxy.address());
    client.set_patience(std::time::Duration::from_secs(60));
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIB}\r\n\r\n"));
    send_content(&client, 12, GIB, false);
    let response = client.response("POST");
    assert_eq!(response.field("X-Length"), Some(GIB.to_string().as_str()));
    assert_eq!(response.field("X-Digest"), Some(SeededContent::digest(12, GIB).as_str()));
    watch.assert_flat("1 GiB up");
}

#[test]
fn chunked_both_ways_at_once() {
    const LEN: u64 = 128 << 20;
    // An echo: each piece comes back as a chunk while the next is still being sent.
    let backend = Backend::start(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let mut back = exchange.stream().try_clone().expect("a second handle of the socket");
        exchange.body_pieces(|piece| {
            let written = write!(back, "{:x}\r\n", piece.len())
                .and_then(|()| back.write_all(piece))
                .and_then(|()| back.write_all(b"\r\n"));
            written.expect("the proxy takes the echo");
        })?;
        exchange.write("0\r\n\r\n")?;
        Ok(After::KeepAlive)
    });
    let proxy = proxy_for(&backend);
    let watch = MemoryWatch::start(proxy.worker_pids()[0]);
    let mut client = Client::connect(proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut hasher = Hasher::default();
    let sender = client.stream().try_clone().and_then(Client::over).expect("a second handle of the socket");
    let sending = std::thread::spawn(move || send_content(&sender, 13, LEN, true));
    let (head, framing) = client.try_head("POST").expect("a head");
    assert_eq!(head.status, 200);
    client.stream_body(framing, |piece| hasher.update(piece)).expect("the whole body");
    sending.join().expect("the body was sent");
    assert_eq!(hasher.length(), LEN);
    assert_eq!(hasher.finish(), SeededContent::digest(13, LEN));
    watch.assert_flat("128 MiB chunked, both ways at once");
}

#[test]
fn slow_reader_stops_the_backend_and_not_the_others() {
    const LEN: u64 = 256 << 20;
    let backend = Backend::large(14, LEN);
    let other = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .cluster("a", "a.test", &[backend.address()])
        .cluster("b", "b.test", &[other.address()])
        .start();
    let watch = MemoryWatch::start(proxy.worker_pids()[0]);
    let mut slow: Vec<Client> = (0..8).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.try_head("GET").expect("the head comes");
    }
    // Nobody reads: everything between is full, and stays as it is.
    let mut quick = Client::connect(proxy.address());
    for _ in 0..500 {
        assert_eq!(quick.get("b.test", "/").text(), "hello");
    }
    watch.assert_flat("8 clients that do not read");
    assert_eq!(backend.served(), 0, "256 MiB disappeared into a client that does not read");
}
