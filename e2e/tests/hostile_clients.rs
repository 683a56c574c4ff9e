//! Who sends anything to the command socket: others are served, nothing hangs, and main does not grow.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kakehi_command::proto::ResponseStatus;
use kakehi_command::proto::request::RequestType;
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::process::{open_fds, raise_fd_limit, resident_bytes};
use kakehi_e2e::{CommandClient, Proxy, requests};

const KIB: u64 = 1024;

fn resident(proxy: &Proxy) -> u64 {
    resident_bytes(proxy.main_pid()).expect("main runs")
}

/// Traffic and another controller are served.
fn others_are_served(proxy: &Proxy) {
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
    let mut client = proxy.command();
    client.set_patience(Duration::from_secs(5));
    client.ok(requests::status());
    client.ok(requests::add_cluster("by-another"));
    client.ok(requests::remove_cluster("by-another"));
}

/// Bytes without a pattern, the same in each run (xorshift64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn garbage_is_answered_or_ends_the_connection() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let revision = proxy.command().revision();
    let frame = CommandClient::frame(requests::add_cluster("never"));
    let mut hostile: Vec<(String, Vec<u8>)> = vec![
        ("half a length".into(), vec![1, 2, 3]),
        ("half a frame".into(), frame[..frame.len() - 1].to_vec()),
        ("an empty frame".into(), 8u64.to_le_bytes().to_vec()),
        ("an oversize frame".into(), (1u64 << 40).to_le_bytes().to_vec()),
        ("the largest length".into(), u64::MAX.to_le_bytes().to_vec()),
        ("a frame just too large".into(), 2_000_001u64.to_le_bytes().to_vec()),
    ];
    hostile.extend((0..8u64).map(|length| (format!("a length of {length}"), length.to_le_bytes().to_vec())));
    hostile.extend((1..=50).map(|seed| (format!("noise {seed}"), noise(seed * 7919, 4096))));
    hostile.extend(
        (1..=50).map(|seed| {
            (format!("framed noise {seed}"), CommandClient::raw_frame(&noise(seed * 104_729, 200)))
        }),
    );
    for (what, bytes) in &hostile {
        let mut stream = UnixStream::connect(proxy.socket()).expect("the socket is served");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        // It may have been closed already.
        let _closed = stream.write_all(bytes);
        let _closed = stream.shutdown(Shutdown::Write);
        // Answers, if any, and then an end: no silence that lasts.
        let mut answers = Vec::new();
        match stream.read_to_end(&mut answers) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{what}: {error} after {} bytes", answers.len()),
        }
    }
    others_are_served(&proxy);
    assert_eq!(proxy.command().revision(), revision + 2, "only the other controller changed something");
}

#[test]
fn unknown_verbs_and_lengths_below_eight_do_not_end_the_connection() {
    let proxy = Proxy::builder().workers(1).start();
    let mut client = proxy.command();
    // Field 999 of Request, a text: from a later version, perhaps.
    for payload in [&[0xba, 0x3e, 1, b'x'][..], &[], &[0x6a, 0xff], &[0x12, 1, 0xff]] {
        client.send_bytes(&CommandClient::raw_frame(payload)).expect("taken");
        let answer = client.receive_final().expect("an answer");
        assert_eq!(answer.status(), ResponseStatus::Failure, "{payload:?}: {}", answer.message);
    }
    client.ok(requests::status());
}

#[test]
fn many_idle_connections_hold_nobody_up_and_cost_little() {
    const IDLE: usize = 1_000;
    raise_fd_limit();
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    others_are_served(&proxy);
    let (before, fds) = (resident(&proxy), open_fds(proxy.main_pid()));
    let mut idle: Vec<UnixStream> =
        (0..IDLE).map(|_| UnixStream::connect(proxy.socket()).expect("there is room")).collect();
    others_are_served(&proxy);
    // And each with a part of a frame that announces the largest.
    for stream in &mut idle {
        stream.write_all(&2_000_000u64.to_le_bytes()).expect("taken");
        stream.write_all(&[0; 64]).expect("taken");
    }
    others_are_served(&proxy);
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < IDLE as u64 * 40 * KIB, "main grew by {} KiB for {IDLE} clients", grown / KIB);
    drop(idle);
    await_true("main closes what is gone", || open_fds(proxy.main_pid()) <= fds.map(|fds| fds + 2));
}

#[test]
fn one_too_many_is_told_so() {
    let proxy = Proxy::builder().workers(1).setting("max_command_clients = 8").start();
    let mut held: Vec<CommandClient> = (0..8)
        .map(|_| {
            let mut client = proxy.command();
            client.ok(requests::status());
            client
        })
        .collect();
    let answer = proxy.command().receive_final().expect("a word before the end");
    assert!(answer.message.contains("max_command_clients"), "{}", answer.message);
    assert_eq!(held[0].metric("command.clients"), 8);
    assert_eq!(held[0].metric("command.clients_refused"), 1);
    // Who leaves makes room.
    held.truncate(4);
    await_true("they are gone", || held[0].metric("command.clients") == 4);
    proxy.command().ok(requests::status());
    assert_eq!(held[0].metric("command.clients_refused"), 1);
    proxy.stop();
}

#[test]
fn who_asks_for_much_and_reads_nothing_costs_a_bounded_amount() {
    const CLUSTERS: usize = 2_000;
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let orders = (0..CLUSTERS).map(|n| requests::add_cluster(&format!("cluster-{n:04}-{}", "x".repeat(150))));
    proxy.command().ok(requests::transaction(orders.collect(), None));
    proxy.command().ok(requests::cluster_hashes());
    others_are_served(&proxy);
    let before = resident(&proxy);
    let ask = CommandClient::frame(requests::cluster_hashes());
    let greedy: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(proxy.socket()).expect("there is room");
            stream.set_nonblocking(true).expect("a socket");
            // Until nothing more is taken: the answers would be 2,000 times so large.
            for _ in 0..2_000 {
                if stream.write_all(&ask).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    others_are_served(&proxy);
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < 20 * 4_096 * KIB, "main grew by {} KiB for 20 clients that do not read", grown / KIB);
    drop(greedy);
    others_are_served(&proxy);
}

#[test]
fn who_writes_byte_by_byte_is_served_and_holds_nobody_up() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[backend.address()]).start();
    let mut slow = proxy.command();
    let frame = CommandClient::frame(requests::add_cluster("slowly"));
    for (index, byte) in frame.iter().enumerate() {
        slow.send_bytes(&[*byte]).expect("taken");
        if index % 8 == 0 {
            others_are_served(&proxy);
        }
    }
    assert_eq!(slow.receive_final().expect("an answer").status(), ResponseStatus::Ok);
}

#[test]
fn who_leaves_in_the_middle_leaves_a_whole_change_or_none() {
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().cluster("a", "a.test", &[backend.address()]).start();
    let batch = |round: usize| -> RequestType {
        requests::transaction(
            (0..50).map(|n| requests::add_cluster(&format!("r{round}-{n}"))).collect(),
            None,
        )
    };
    for round in 0..40 {
        let frame = CommandClient::frame(batch(round));
        // Cut at all kinds of places; every fourth is whole, and only its answer is not waited for.
        let end = if round % 4 == 0 { frame.len() } else { frame.len() * (round % 4) / 4 };
        let mut client = proxy.command();
        client.send_bytes(&frame[..end]).expect("taken");
    }
    others_are_served(&proxy);
    // Who left without waiting may still be read.
    await_true("what was sent whole is done", || proxy.command().main_hashes().len() == 10 * 50 + 1);
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "hello");
}
