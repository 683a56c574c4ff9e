//! Clients that take their time: they get it within bounds, at a bounded price, and nobody else pays it.

#![expect(clippy::disallowed_methods, reason = "the passing of time is what is tested")]

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kakehi_e2e::deadline::{await_true, await_value_within, run_for};
use kakehi_e2e::http::{After, Backend, Client, Framing, ReadError, get};
use kakehi_e2e::{Proxy, process};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};

const GIB: u64 = 1 << 30;

/// Answers every request by a gibibyte, as far as it is taken; counts what was taken.
fn endless(taken: &Arc<AtomicU64>) -> Backend {
    let taken = Arc::clone(taken);
    Backend::start(move |exchange| {
        static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        // The kernel's own memory is for all tests together.
        setsockopt(&exchange.stream().as_fd(), sockopt::SndBuf, &(64 * 1024)).expect("an option of a socket");
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n"))?;
        for _ in 0..GIB / PIECE.len() as u64 {
            exchange.write(PIECE)?;
            taken.fetch_add(PIECE.len() as u64, Ordering::Relaxed);
        }
        Ok(After::KeepAlive)
    })
}

/// Waits until a count stands still.
fn await_still(what: &str, count: &AtomicU64) -> u64 {
    let mut last = (count.load(Ordering::Relaxed), Instant::now());
    await_value_within(Duration::from_secs(30), what, || {
        let now = count.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(500)).then_some(now)
    })
}

#[test]
fn a_thousand_slow_readers_of_a_gibibyte() {
    const READERS: usize = 1_000;
    /// Buffers of the proxy (max_buffers, buffer_size), and what a thousand sessions are otherwise.
    const GROWTH_MAX: u64 = 1_000 * 16_393 + (8 << 20);
    /// Requests get a buffer where fewer than so many are in use: a quarter and a sixteenth are kept for what is
    /// under way (`lib/src/net/buffers.rs`). Answers may hold more, until the next request comes: how many do is a
    /// matter of time.
    const REQUEST_SHARE: usize = 1_000 - 1_000 / 4 - 1_000 / 16;
    process::raise_fd_limit();
    let taken = Arc::new(AtomicU64::new(0));
    let (large, small) = (endless(&taken), Backend::named("quick"));
    let proxy = Proxy::builder()
        .workers(1)
        .cluster("a", "a.test", &[large.address()])
        .cluster("b", "b.test", &[small.address()])
        .start();
    let worker = proxy.worker_pids()[0];
    assert_eq!(get(proxy.address(), "b.test", "/").text(), "quick");
    let before = process::resident_bytes(worker).expect("it runs");
    let begun = Instant::now();
    // One after the other: a thousand connects at a time would be too many for the backend's queue.
    let mut readers: Vec<Client> = (0..READERS)
        .map(|index| {
            let mut reader = narrow(&proxy, 64 * 1024);
            reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let (head, _) = reader.try_head("GET").expect("an answer begins");
            assert_eq!(head.status, 200, "reader {index}");
            reader
        })
        .collect();
    let held = await_still("all buffers on the way are full", &taken);
    let after = process::resident_bytes(worker).expect("it runs");
    let mut command = proxy.command();
    println!(
        "{READERS} readers after {:?}: {} KiB each between backend and client; the worker grew by {} KiB; \
         {} buffers and {} pipes in use",
        begun.elapsed(),
        held / 1024 / READERS as u64,
        after.saturating_sub(before) / 1024,
        command.metric("buffer.in_use"),
        command.metric("splice.pipes"),
    );
    assert!(after < before + GROWTH_MAX, "the worker grew from {before} to {after} bytes");
    // Everybody else is served: where no buffer is left, those who took nothing for longest give theirs up.
    let started = Instant::now();
    let mut other = Client::connect(proxy.address());
    for _ in 0..200 {
        assert_eq!(other.get("b.test", "/").text(), "quick");
        assert_eq!(get(proxy.address(), "b.test", "/").text(), "quick");
    }
    let evicted = usize::try_from(command.metric("http.stalled.evicted")).expect("a count");
    println!("400 requests of others took {:?}; {evicted} readers were cut", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(evicted <= READERS - REQUEST_SHARE, "{evicted} readers were cut");
    // They do read, a little each: every one that was not cut gets on, and memory stays where it is.
    const SIP: usize = 128 * 1024;
    let alive = readers.iter_mut().filter_map(|reader| {
        let mut left = SIP;
        while left > 0 {
            let count = reader.read_some().map_or(0, |bytes| bytes.len());
            left = left.checked_sub(count.min(left)).filter(|_| count > 0)?;
        }
        Some(())
    });
    let alive = alive.count();
    assert!(alive >= READERS - evicted, "{alive} readers get on, {evicted} were cut");
    let more = await_still("what was read has been replaced", &taken);
    assert!(more > held, "nothing was sent on");
    let after = process::resident_bytes(worker).expect("it runs");
    assert!(after < before + GROWTH_MAX, "the worker grew from {before} to {after} bytes");
    drop(readers);
    await_true("all is given back", || command.metric("buffer.in_use") == 0);
    assert_eq!(command.metric("splice.pipes"), 0);
}

#[test]
fn thousands_of_half_heads_keep_nobody_from_being_served() {
    const HALVES: usize = 2_000;
    process::raise_fd_limit();
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let mut halves: Vec<Client> = (0..HALVES).map(|_| Client::connect(proxy.address())).collect();
    for half in &mut halves {
        half.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ");
    }
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    }
    let elapsed = started.elapsed();
    let mut command = proxy.command();
    println!(
        "20 requests took {elapsed:?}; {} half heads evicted",
        command.metric("http.half_heads.evicted")
    );
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    assert!(command.metric("http.half_heads.evicted") > 0);
    // Whoever is left may still finish.
    let served = halves
        .iter_mut()
        .rev()
        .take(50)
        .filter_map(|half| {
            half.try_send(b"now\r\n\r\n").ok()?;
            half.try_response("GET").ok().filter(|response| response.status() == 200)
        })
        .count();
    assert!(served > 0, "none of the youngest halves was kept");
}

#[test]
fn a_reader_that_is_fast_enough_is_not_cut_for_what_the_kernel_holds() {
    let taken = Arc::new(AtomicU64::new(0));
    let backend = endless(&taken);
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("front_timeout = 1\nmin_transfer_rate = 240")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut reader = narrow(&proxy, 4096);
    reader.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    reader.try_head("GET").expect("the answer begins");
    // Some 50,000 bytes a second: of megabytes in the kernel's buffers that is little.
    sip(&mut reader, 512, Duration::from_millis(10), Duration::from_secs(5));
    assert_eq!(proxy.command().metric("client.too_slow"), 0);
    assert_eq!(backend.open(), 1);
}

/// Clients that each hold a buffer of few, for something that is of no use yet, then one that asks.
fn check_unused(what: &str, sent: &str) {
    let backend = Backend::start(|exchange| {
        if exchange.head.target == "/late" {
            exchange.await_close();
        }
        exchange.body()?;
        exchange.answer("hello")?;
        Ok(After::KeepAlive)
    });
    let proxy = Proxy::builder()
        .workers(1)
        .setting("max_buffers = 64")
        .setting("max_connections = 200")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut holders: Vec<Client> = (0..60).map(|_| Client::connect(proxy.address())).collect();
    for holder in &mut holders {
        holder.send(sent);
    }
    let mut command = proxy.command();
    await_true("buffers are held or given up", || {
        command.metric("buffer.in_use") > 40 || command.metric("http.half_heads.evicted") > 0
    });
    let asked = Instant::now();
    let text = loop {
        let response = get(proxy.address(), "a.test", "/");
        if response.status() == 200 || asked.elapsed() > Duration::from_secs(8) {
            break response.text();
        }
    };
    assert_eq!(text, "hello", "{what}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{what}: {:?}", asked.elapsed());
}

#[test]
fn parts_of_lines_and_of_requests_to_come_keep_nobody_from_being_served() {
    let body = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_unused("a part of a chunk's size", &format!("{body}1"));
    check_unused("a part of a chunk's end", &format!("{body}1\r\nx\r"));
    check_unused("a part of a trailer", &format!("{body}0\r\nX: y"));
    check_unused("the next request's first byte", "GET /late HTTP/1.1\r\nHost: a.test\r\n\r\nG");
}

/// Sends `bytes` one at a time until an answer or the end comes; tells what and after how long.
fn trickle(proxy: &Proxy, head: &str, pause: Duration, at_a_time: usize) -> (u16, Duration) {
    let mut client = Client::connect(proxy.address());
    client.send(head);
    let started = Instant::now();
    let stream = client.stream().try_clone().expect("a second handle of the socket");
    let sender = std::thread::spawn(move || {
        let mut stream = stream;
        let bytes = vec![b'x'; at_a_time];
        while stream.write_all(&bytes).is_ok() && started.elapsed() < Duration::from_secs(12) {
            run_for(pause);
        }
    });
    let status = client.try_response("POST").map_or(0, |response| response.status());
    let elapsed = started.elapsed();
    // The proxy has said that it is over: the sender meets a closed connection.
    let _gone_already = client.stream().shutdown(std::net::Shutdown::Both);
    sender.join().expect("a thread that only writes");
    (status, elapsed)
}

#[test]
fn a_head_that_comes_byte_by_byte_has_its_time() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("request_timeout = 1")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ";
    let (status, elapsed) = trickle(&proxy, head, Duration::from_millis(20), 1);
    assert_eq!(status, 408);
    assert!((900..2_500).contains(&elapsed.as_millis()), "after {elapsed:?}");
    assert!(!backend.has_request());
}

#[test]
fn a_body_that_is_too_slow_is_ended_and_one_that_is_fast_enough_is_not() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("front_timeout = 1\nmin_transfer_rate = 2000")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let head = |length: usize| format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n");
    // 200 bytes a second: a tenth of what is asked.
    let (status, elapsed) = trickle(&proxy, &head(100_000), Duration::from_millis(20), 4);
    assert_eq!(status, 408);
    assert!((900..2_500).contains(&elapsed.as_millis()), "after {elapsed:?}");
    assert_eq!(proxy.command().metric("client.too_slow"), 1);
    // The same in chunks.
    let chunked = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    assert_eq!(trickle(&proxy, chunked, Duration::from_millis(20), 4).0, 408);
    // Some 20,000 bytes a second, for longer than the grace lasts.
    let (status, elapsed) = trickle(&proxy, &head(60_000), Duration::from_millis(10), 300);
    assert_eq!(status, 200, "after {elapsed:?}");
    assert!(elapsed > Duration::from_millis(1_500), "{elapsed:?}: not a test of patience");
}

#[test]
fn without_a_least_rate_a_trickle_goes_on() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("front_timeout = 1\nmin_transfer_rate = 0")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 400\r\n\r\n";
    let (status, elapsed) = trickle(&proxy, head, Duration::from_millis(20), 4);
    assert_eq!(status, 200);
    assert!(elapsed > Duration::from_millis(1_800), "{elapsed:?}");
}

/// A client whose kernel takes so many bytes in advance, at the far end of a wire that carries packets of the
/// usual size: loopback's own are so large that the kernel makes its buffers hundreds of times as large.
fn narrow(proxy: &Proxy, bytes: usize) -> Client {
    let address: SocketAddrV4 = proxy.address().to_string().parse().expect("of IPv4");
    let socket =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&socket, sockopt::RcvBuf, &bytes).expect("an option of a fresh socket");
    setsockopt(&socket, sockopt::TcpMaxSeg, &1_460).expect("an option of a fresh socket");
    connect(socket.as_raw_fd(), &SockaddrIn::from(address)).expect("the proxy listens");
    Client::over(TcpStream::from(socket)).expect("options of a fresh socket")
}

/// Reads `at_a_time` bytes, then pauses, until the end: how much came, after how long, and how it ended.
fn sip(client: &mut Client, at_a_time: usize, pause: Duration, most: Duration) -> (u64, Duration, bool) {
    let started = Instant::now();
    let (mut total, mut piece) = (0, vec![0; at_a_time]);
    let mut stream = client.stream();
    while started.elapsed() < most {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return (total, started.elapsed(), true),
            Ok(count) => total += count as u64,
        }
        run_for(pause);
    }
    (total, started.elapsed(), false)
}

#[test]
fn an_answer_that_is_taken_too_slowly_is_cut() {
    let taken = Arc::new(AtomicU64::new(0));
    let backend = endless(&taken);
    let proxy = Proxy::builder()
        .workers(1)
        .listener_setting("front_timeout = 1\nmin_transfer_rate = 1000000")
        .cluster("a", "a.test", &[backend.address()])
        .start();
    let mut command = proxy.command();
    // What was written on is in the kernel's buffers: it takes a while to see that nothing is taken of it.
    let mut slow = narrow(&proxy, 4096);
    slow.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    slow.try_head("GET").expect("the answer begins");
    let started = Instant::now();
    await_true("the slow reader is given up", || command.metric("client.too_slow") == 1);
    println!("given up after {:?}", started.elapsed());
    assert!(started.elapsed() > Duration::from_millis(800));
    // It must not take what it got for the whole.
    let ended = slow.stream_body(Framing::Length(GIB), |_| ());
    assert!(matches!(ended, Err(ReadError::Truncated(_) | ReadError::Reset)), "{ended:?}");
    await_true("the backend is told", || backend.open() == 0);
    // One that reads, only not fast enough.
    let mut slow = narrow(&proxy, 4096);
    slow.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    slow.try_head("GET").expect("the answer begins");
    // Some 50,000 bytes a second: its kernel goes on to have some for it when the proxy has given up.
    sip(&mut slow, 512, Duration::from_millis(10), Duration::from_secs(3));
    await_true("the slow reader is given up", || command.metric("client.too_slow") == 2);
    // And one that does its share.
    let mut quick = Client::connect(proxy.address());
    quick.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    quick.try_head("GET").expect("the answer begins");
    let (total, elapsed, ended) =
        sip(&mut quick, 256 * 1024, Duration::from_millis(10), Duration::from_secs(3));
    assert!(!ended, "cut after {elapsed:?} and {total} bytes");
    assert_eq!(command.metric("client.too_slow"), 2);
}
