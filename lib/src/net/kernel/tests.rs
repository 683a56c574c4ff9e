//! Real Unix sockets: what sessions count on, as this kernel does it.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};

use mio::{Events, Poll, Token as MioToken};
use tempfile::tempdir;

use super::*;

const TOKEN: Token = 7;

struct Scene {
    poll: Poll,
    net: Kernel,
    _directory: tempfile::TempDir,
    target: BackendTarget,
    listener: UnixListener,
}

fn target(text: &str) -> BackendTarget {
    BackendTarget::Unix(UnixPath::parse(text).expect("a name"))
}

fn scene() -> Scene {
    let directory = tempdir().expect("a directory");
    let path = directory.path().join("backend.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let poll = Poll::new().expect("a poll");
    let net = Kernel::new(poll.registry().try_clone().expect("its registry"));
    Scene { poll, net, _directory: directory, target: target(path.to_str().expect("plain")), listener }
}

impl Scene {
    /// What the poll tells until it tells that `enough`.
    fn await_ready(&mut self, enough: impl Fn(Ready) -> bool) -> Ready {
        let mut events = Events::with_capacity(8);
        let mut all = Ready::default();
        while !enough(all) {
            self.poll.poll(&mut events, Some(Duration::from_secs(10))).expect("polled");
            assert!(!events.is_empty(), "{all:?} is all that came");
            for event in &events {
                assert_eq!(event.token(), MioToken(TOKEN));
                let ready = readiness(event);
                all.readable |= ready.readable;
                all.writable |= ready.writable;
                all.read_closed |= ready.read_closed;
                all.gone |= ready.gone;
            }
        }
        all
    }
}

#[test]
fn a_connection_stands_at_once_and_tells_of_what_comes() {
    let mut scene = scene();
    let mut ours = scene.net.connect(&scene.target, TOKEN).expect("connected");
    assert_eq!(ours.write_pair(b"hello ", b"there").expect("written"), 11);
    assert!(!scene.await_ready(|ready| ready.writable).gone);
    let (mut theirs, _) = scene.listener.accept().expect("accepted");
    let mut read = [0; 11];
    theirs.read_exact(&mut read).expect("read");
    assert_eq!((&read, ours.is_quiet()), (b"hello there", true));
    assert_eq!(ours.unacknowledged(), None, "nobody can tell");
    theirs.write_all(b"answer").expect("written");
    drop(theirs);
    // Closed is gone in both directions at once, and what came before is still there.
    assert!(scene.await_ready(|ready| ready.gone).readable);
    assert!(!ours.is_quiet());
    let mut read = [0; 16];
    assert_eq!(ours.read(&mut read).expect("read"), 6);
    assert_eq!(ours.read(&mut read).expect("the end"), 0);
    assert_eq!(ours.write(b"more").expect_err("nobody listens").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn each_direction_ends_by_itself() {
    let mut scene = scene();
    let mut ours = scene.net.connect(&scene.target, TOKEN).expect("connected");
    let (mut theirs, _) = scene.listener.accept().expect("accepted");
    ours.write(b"all").expect("written");
    ours.shutdown_write().expect("ended");
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).expect("read to its end");
    theirs.write_all(b"yes").expect("the other direction goes on");
    scene.await_ready(|ready| ready.readable);
    assert_eq!((ours.read(&mut [0; 8]).expect("read"), &*read), (3, &b"all"[..]));
}

#[test]
fn long_bodies_pass_through_a_pipe() {
    let mut scene = scene();
    let mut first = scene.net.connect(&scene.target, TOKEN).expect("connected");
    let (mut source, _) = scene.listener.accept().expect("accepted");
    let mut second = scene.net.connect(&scene.target, TOKEN).expect("connected");
    let (mut sink, _) = scene.listener.accept().expect("accepted");
    let sent: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    source.write_all(&sent).expect("it fits the socket");
    drop(source);
    let mut pipe = scene.net.pipe(1 << 16).expect("a pipe");
    loop {
        let held = first.fill(&mut pipe, 1 << 16).expect("filled");
        if held == 0 {
            break;
        }
        let mut left = held;
        while left > 0 {
            left -= second.drain(&mut pipe, left).expect("drained");
        }
    }
    drop(second);
    let mut came = Vec::new();
    sink.read_to_end(&mut came).expect("read");
    assert_eq!(came, sent);
}

#[test]
fn room_is_told_of() {
    let mut scene = scene();
    let mut ours = scene.net.connect(&scene.target, TOKEN).expect("connected");
    let (mut theirs, _) = scene.listener.accept().expect("accepted");
    scene.await_ready(|ready| ready.writable);
    let mut written = 0;
    let full = loop {
        match ours.write(&[1; 4096]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    theirs.read_exact(&mut vec![0; written]).expect("all of it");
    scene.await_ready(|ready| ready.writable);
}

#[test]
fn an_abstract_name_is_found() {
    let mut scene = scene();
    let name = format!("kakehi-kernel-test-{}", std::process::id());
    let address = UnixSocketAddr::from_abstract_name(&name).expect("an address");
    let listener = UnixListener::bind_addr(&address).expect("a socket");
    scene.net.connect(&target(&format!("@{name}")), TOKEN).expect("connected");
    listener.accept().expect("accepted");
}

#[test]
fn what_cannot_be_connected_to_fails_at_once() {
    let mut scene = scene();
    let BackendTarget::Unix(path) = scene.target.clone() else { unreachable!("it was made so") };
    let mut connect =
        |to: &BackendTarget| scene.net.connect(to, TOKEN).map(drop).map_err(|error| error.kind());
    assert_eq!(connect(&target(&format!("{path}.not"))), Err(io::ErrorKind::NotFound));
    assert_eq!(connect(&target("@nobody listens here")), Err(io::ErrorKind::ConnectionRefused));
    // Of those that nobody accepts only so many may wait.
    let waiting: Vec<_> =
        std::iter::from_fn(|| scene.net.connect(&scene.target, TOKEN).ok()).take(10_000).collect();
    assert!((1..10_000).contains(&waiting.len()), "{} wait", waiting.len());
    let error = scene.net.connect(&scene.target, TOKEN).expect_err("one too many");
    assert_eq!(error.raw_os_error(), Some(nix::libc::EAGAIN));
    drop(scene.listener);
    let error = scene.net.connect(&scene.target, TOKEN).expect_err("nobody listens any more");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
