//! TCP listeners: bytes both ways between a client and a backend, of which nothing is understood.

#![expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]
#![expect(clippy::disallowed_types, reason = "a backend serves its connections in threads")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ListenerType, RemoveListener, TcpListenerConfig};
use kakehi_e2e::address::free_address;
use kakehi_e2e::content::{Hasher, SeededContent};
use kakehi_e2e::deadline::{await_true, run_for};
use kakehi_e2e::http::get;
use kakehi_e2e::tcp::{
    TcpBackend, TcpClient, activate_tcp_listener, deactivate_tcp_listener, tcp_frontend, tcp_listener,
};
use kakehi_e2e::{CommandClient, Proxy, await_replaced, requests, send_signal};
use nix::sys::signal::Signal;

/// A proxy with a TCP listener that leads to a cluster "a" of these backends.
struct Site {
    proxy: Proxy,
    command: CommandClient,
    address: SocketAddr,
}

fn site_with(
    settings: &[&str],
    change: impl FnOnce(&mut TcpListenerConfig),
    backends: &[SocketAddr],
) -> Site {
    let builder = Proxy::builder().workers(1).without_listener();
    let proxy = settings.iter().fold(builder, |builder, line| builder.setting(line)).start();
    let mut command = proxy.command();
    let address = free_address();
    let mut listener = tcp_listener(address);
    change(&mut listener);
    command.ok(RequestType::AddTcpListener(listener));
    command.ok(requests::add_cluster("a"));
    command.ok(RequestType::AddTcpFrontend(tcp_frontend("a", address)));
    for (index, backend) in backends.iter().enumerate() {
        command.ok(requests::add_backend("a", &format!("b{index}"), *backend));
    }
    command.ok(activate_tcp_listener(address));
    Site { proxy, command, address }
}

fn site(backends: &[SocketAddr]) -> Site {
    site_with(&[], |_| {}, backends)
}

impl Site {
    fn connect(&self) -> TcpClient {
        TcpClient::connect(self.address)
    }

    /// A connection of which the backend's first word came.
    fn open(&self, name: &str) -> TcpClient {
        let mut client = self.connect();
        client.hears(name);
        client
    }

    fn await_metric(&mut self, name: &str, value: i64) {
        let command = &mut self.command;
        await_true(&format!("{name} is {value}"), || command.metric(name) == value);
    }
}

#[test]
fn bytes_pass_both_ways_and_are_counted() {
    let backend = TcpBackend::echo("hello");
    let mut site = site(&[backend.address()]);
    // It speaks first: nobody waits for the client.
    let mut client = site.open("hello");
    for text in ["x", "GET / HTTP/1.1\r\n\r\n", "\0\u{1}binary\u{7f}", "last"] {
        client.says(text);
    }
    assert_eq!(site.command.metric("protocol.tcp"), 1);
    assert_eq!(site.command.metric("listener.accepted.tcp"), 1);
    assert_eq!(site.command.metric("listener.accepted.http"), 0);
    assert_eq!(site.command.metric("tcp.requests"), 1);
    client.finish();
    assert_eq!(client.rest_text(), "over");
    site.await_metric("protocol.tcp", 0);
    let bytes = 1 + 18 + 9 + 4;
    assert_eq!(site.command.metric("bytes_in"), bytes);
    assert_eq!(site.command.metric("back_bytes_out"), bytes);
    assert_eq!(site.command.metric("back_bytes_in"), bytes + 5 + 4);
    assert_eq!(site.command.metric("bytes_out"), bytes + 5 + 4);
    site.await_metric("backend.connections", 0);
    site.await_metric("buffer.in_use", 0);
    site.proxy.stop();
}

#[test]
fn each_direction_ends_by_itself() {
    // The backend ends first, and hears what the client says after that.
    let (heard, hears) = channel();
    let heard = Mutex::new(heard);
    let backend = TcpBackend::start(move |mut stream| {
        stream.write_all(b"all")?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        heard.lock().expect("not poisoned").send(text).map_err(std::io::Error::other)
    });
    let mut site = site(&[backend.address()]);
    let mut client = site.connect();
    assert_eq!(client.rest_text(), "all");
    client.send("still ");
    client.send("here");
    client.finish();
    assert_eq!(hears.recv_timeout(Duration::from_secs(15)).as_deref(), Ok("still here"));
    site.await_metric("protocol.tcp", 0);
    site.proxy.stop();
}

#[test]
fn much_passes_unchanged_at_the_pace_of_the_slower() {
    const BYTES: usize = 24 << 20;
    let backend = TcpBackend::start(|mut stream| {
        // All of it is taken before anything is sent.
        let mut bytes = Vec::new();
        (&stream).take(BYTES as u64).read_to_end(&mut bytes)?;
        stream.write_all(&bytes)
    });
    let mut site = site(&[backend.address()]);
    let client = site.connect();
    let content = SeededContent::bytes(7, BYTES);
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sent = content.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).expect("all is taken"));
    writing.join().expect("sent");
    // Nothing is read for a while: what the proxy holds of it is bounded by buffers and one pipe.
    run_for(Duration::from_millis(300));
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    let mut stream = &client.stream;
    while hasher.length() < BYTES as u64 {
        let count = stream.read(&mut buffer).expect("more comes");
        assert!(count > 0, "an end after {} bytes", hasher.length());
        hasher.update(&buffer[..count]);
    }
    assert_eq!(hasher.finish(), SeededContent::digest(7, BYTES as u64));
    drop(client);
    site.await_metric("protocol.tcp", 0);
    assert!(site.command.metric("bytes_spliced") > 24 << 20, "most of it went through the kernel");
    site.await_metric("splice.pipes", 0);
    site.proxy.stop();
}

/// Whoever finds no pipe has its bytes copied.
#[test]
fn there_are_no_more_pipes_than_may_be() {
    const BYTES: usize = 24 << 20;
    let backend = TcpBackend::start(|mut stream| {
        stream.write_all(&SeededContent::bytes(7, BYTES))?;
        stream.shutdown(Shutdown::Write)
    });
    let mut site = site_with(&["max_splice_pipes = 1"], |_| {}, &[backend.address()]);
    // It reads nothing, so that what is in its pipe stays there.
    let held = site.connect();
    site.await_metric("splice.pipes", 1);
    for _ in 0..3 {
        let mut hasher = Hasher::default();
        hasher.update(&site.connect().rest());
        assert_eq!(hasher.finish(), SeededContent::digest(7, BYTES as u64));
        assert_eq!(site.command.metric("splice.pipes"), 1);
    }
    let mut client = held;
    assert_eq!(client.rest().len(), BYTES);
    site.await_metric("splice.pipes", 0);
    site.proxy.stop();
}

#[test]
fn the_next_backend_is_tried() {
    let backend = TcpBackend::echo("b");
    let mut site = site(&[free_address(), backend.address(), free_address()]);
    for _ in 0..6 {
        site.open("b").says("x");
    }
    assert!(site.command.metric("backend.connections.error") > 0, "those that refuse were asked, too");
    assert_eq!(site.command.metric("tcp.failed_backend_matching"), 0);
    site.proxy.stop();
}

#[test]
fn without_a_backend_the_connection_is_closed() {
    let mut site = site(&[free_address()]);
    for _ in 0..3 {
        assert_eq!(site.connect().rest(), b"");
    }
    site.await_metric("tcp.failed_backend_matching", 3);
    site.command.ok(RequestType::RemoveTcpFrontend(tcp_frontend("a", site.address)));
    assert_eq!(site.connect().rest(), b"");
    site.await_metric("tcp.failed_frontend_matching", 1);
    site.await_metric("protocol.tcp", 0);
    site.proxy.stop();
}

#[test]
fn a_backend_that_does_not_accept_is_given_up_after_the_connect_timeout() {
    // Its queue is full: one connection that nobody takes, and another.
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
    use std::os::fd::AsRawFd;
    let full = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(full.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    listen(&full, Backlog::new(0).expect("a backlog")).expect("it listens");
    let listener = TcpListener::from(full);
    let address = listener.local_addr().expect("it is bound");
    let _first = TcpClient::try_connect(address);
    let backend = TcpBackend::echo("b");
    let mut site = site_with(&[], |listener| listener.connect_timeout = 1, &[address, backend.address()]);
    for _ in 0..2 {
        site.open("b").says("x");
    }
    assert!(site.command.metric("backend.connect.timeouts") >= 1);
    site.proxy.stop();
}

#[test]
fn changes_do_not_touch_connections_that_stand() {
    let (first, second) = (TcpBackend::echo("1"), TcpBackend::echo("2"));
    let mut site = site(&[first.address()]);
    let mut before = site.open("1");
    site.command.ok(requests::remove_backend("a", "b0", first.address()));
    before.says("the backend was removed");
    site.command.ok(requests::add_cluster("b"));
    site.command.ok(requests::add_backend("b", "b", second.address()));
    site.command.ok(RequestType::RemoveTcpFrontend(tcp_frontend("a", site.address)));
    site.command.ok(RequestType::AddTcpFrontend(tcp_frontend("b", site.address)));
    site.command.ok(requests::remove_cluster("a"));
    let mut after = site.open("2");
    before.says("the cluster was removed");
    site.command.ok(deactivate_tcp_listener(site.address));
    await_true("nobody listens", || TcpClient::try_connect(site.address).is_err());
    before.says("the listener was deactivated");
    after.says("it was");
    site.command.ok(activate_tcp_listener(site.address));
    site.open("2").says("and is there again");
    before.finish();
    assert_eq!(before.rest_text(), "over");
    await_true("the backend is let go", || first.open() == 0);
    site.proxy.stop();
}

#[test]
fn an_address_may_change_what_it_speaks() {
    let backend = TcpBackend::echo("b");
    let mut site = site(&[backend.address()]);
    let mut before = site.open("b");
    let to_http = vec![
        RequestType::RemoveListener(RemoveListener {
            address: requests::wire_address(site.address),
            proxy: ListenerType::Tcp.into(),
            ..Default::default()
        }),
        requests::add_listener(site.address),
        requests::activate_listener(site.address),
    ];
    site.command.ok(requests::transaction(to_http, None));
    assert_eq!(get(site.address, "a.test", "/").status(), 404);
    before.says("of the listener that was");
    let to_tcp = vec![
        requests::remove_listener(site.address),
        RequestType::AddTcpListener(tcp_listener(site.address)),
        activate_tcp_listener(site.address),
    ];
    site.command.ok(requests::transaction(to_tcp, None));
    // Its frontend is of the address, and stayed or went with it.
    let _there_already = site.command.request(RequestType::AddTcpFrontend(tcp_frontend("a", site.address)));
    site.open("b").says("again");
    before.says("still");
    site.proxy.stop();
}

#[test]
fn a_worker_that_is_replaced_serves_on() {
    let backend = TcpBackend::echo("b");
    let site = site(&[backend.address()]);
    let mut lost = site.open("b");
    let pid = site.proxy.worker_pids()[0];
    send_signal(pid, Signal::SIGKILL);
    // What connects meanwhile waits in the kernel.
    let mut waiting = site.connect();
    waiting.hears("b");
    waiting.says("served by the next one");
    assert_eq!(lost.rest(), b"");
    await_replaced(&site.proxy, pid, 1);
    site.proxy.stop();
}

#[test]
fn only_silence_of_both_sides_ends_a_connection() {
    let timeouts = |listener: &mut TcpListenerConfig| {
        (listener.front_timeout, listener.back_timeout) = (2, 1);
    };
    let backend = TcpBackend::start(|mut stream| {
        for _ in 0..12 {
            stream.write_all(b".")?;
            std::thread::sleep(Duration::from_millis(300));
        }
        // Then it is silent.
        stream.read(&mut [0]).map(drop)
    });
    let mut site = site_with(&[], timeouts, &[backend.address()]);
    let started = Instant::now();
    let mut client = site.connect();
    assert_eq!(client.rest_text(), ".".repeat(12));
    let lasted = started.elapsed();
    // The longer of both times, from the last byte on.
    assert!(lasted > Duration::from_millis(300 * 11 + 1900), "{lasted:?}");
    assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    assert_eq!(site.command.metric("tcp.idle_timeouts"), 1);
    site.proxy.stop();
}

#[test]
fn at_the_limit_connections_are_closed_without_a_word() {
    let backend = TcpBackend::echo("b");
    let mut site = site_with(&["max_connections = 2"], |_| {}, &[backend.address()]);
    let mut within = [site.open("b"), site.open("b")];
    assert_eq!(site.connect().rest(), b"", "no HTTP here");
    assert_eq!(site.command.metric("listener.connection_capped"), 1);
    for client in &mut within {
        client.says("undisturbed");
    }
    drop(within);
    site.await_metric("protocol.tcp", 0);
    site.open("b").says("served again");
    site.proxy.stop();
}

#[test]
fn a_soft_stop_waits_for_an_answer_and_for_nothing_else() {
    let (go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let backend = TcpBackend::start(move |mut stream| {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            if byte == *b"?" {
                wait.lock().expect("not poisoned").recv().map_err(std::io::Error::other)?;
            }
            stream.write_all(b"answer")?;
        }
        Ok(())
    });
    let mut site = site(&[backend.address()]);
    let (mut idle, mut asking) = (site.connect(), site.connect());
    idle.send("!");
    idle.hears("answer");
    asking.send("?");
    await_true("both are under way", || site.command.metric("back_bytes_out") == 2);
    site.command.send(RequestType::SoftStop(Default::default()));
    assert_eq!(idle.rest(), b"");
    go.send(()).expect("the backend waits");
    assert_eq!(asking.rest(), b"answer");
    assert!(site.proxy.await_exit().success());
}

#[test]
fn buffers_that_run_out_stall_nobody_for_long() {
    let backend = TcpBackend::echo("b");
    let mut site = site_with(&["max_buffers = 8", "max_splice_pipes = 0"], |_| {}, &[backend.address()]);
    // Those take nothing of what comes back to them, until nothing more can be sent.
    let stuck: Vec<TcpClient> = (0..6)
        .map(|_| {
            let client = site.open("b");
            client.stream.set_nonblocking(true).expect("a socket");
            let chunk = vec![0; 1 << 20];
            let mut tries = 0;
            while tries < 50 {
                match (&client.stream).write(&chunk) {
                    Ok(1..) => tries = 0,
                    Ok(0) | Err(_) => {
                        tries += 1;
                        run_for(Duration::from_millis(2));
                    }
                }
            }
            client
        })
        .collect();
    for _ in 0..20 {
        site.open("b").says("served");
    }
    assert!(site.command.metric("tcp.stalled.evicted") > 0, "at the cost of those who were stuck");
    drop(stuck);
    site.await_metric("protocol.tcp", 0);
    site.await_metric("buffer.in_use", 0);
    site.proxy.stop();
}
