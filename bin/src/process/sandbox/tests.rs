//! The walls at work: each test starts itself again as a process of its own, which enters them and tries one
//! thing. Nothing of this is in the program that is shipped.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kakehi_command::channel::scm::{self, ControlBuffer, Wait};
use kakehi_lib::net::shared_memory;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, sockopt};
use nix::unistd::pipe2;

use super::*;

/// Set in the process that enters the walls.
const INSIDE: &str = "KAKEHI_TEST_INSIDE";

/// Exit code for an error that has no number. Numbers of the kernel are below 134.
const NO_NUMBER: i32 = 200;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused(Errno),
    Killed(Signal),
}

/// Starts this test anew, within `walls`, to do `attempt`. What was prepared before is prepared there too.
#[expect(
    clippy::disallowed_methods,
    reason = "the inner process is told by its environment, and must end here"
)]
fn inside(walls: fn() -> io::Result<()>, test: &str, attempt: impl FnOnce() -> io::Result<()>) -> Outcome {
    if std::env::var_os(INSIDE).is_some() {
        let code = match walls().and_then(|()| attempt()) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(NO_NUMBER),
        };
        std::process::exit(code);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    // One thread: seccomp and Landlock bind the thread that enters.
    let output = Command::new(own)
        .args([&format!("process::sandbox::tests::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("the test binary runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match (output.status.code(), output.status.signal()) {
        // The harness says this where nothing was run at all, with success.
        (Some(0), _) if said.contains("running 0 tests") => panic!("there is no test {test}"),
        (Some(0), _) => Outcome::Done,
        (Some(code @ (101 | NO_NUMBER..)), _) => panic!("{test} failed inside ({code}): {said}"),
        (Some(code), _) => Outcome::Refused(Errno::from_raw(code)),
        (None, signal) => {
            let signal = signal.and_then(|signal| Signal::try_from(signal).ok());
            Outcome::Killed(signal.expect("a process ends by a code or by a signal"))
        }
    }
}

fn both() -> io::Result<()> {
    both_with(UnixSockets::Any)
}

fn both_with_paths() -> io::Result<()> {
    both_with(UnixSockets::Paths)
}

fn both_without_unix() -> io::Result<()> {
    both_with(UnixSockets::None)
}

fn both_with(unix_sockets: UnixSockets) -> io::Result<()> {
    let sandbox = enter(unix_sockets);
    assert!(!sandbox.missing().iter().any(|part| part.contains("seccomp")), "{sandbox:?}");
    Ok(())
}

fn seccomp_alone() -> io::Result<()> {
    seccomp::enter(UnixSockets::Any).map_err(io::Error::other)
}

/// ENOSYS for a kernel without what is to be seen at work.
fn landlock_alone() -> io::Result<()> {
    match landlock::enter(UnixSockets::Any) {
        Ok(abi) if abi >= ::landlock::ABI::V4 => Ok(()),
        Ok(_) | Err(landlock::LandlockError::NotEnabled | landlock::LandlockError::NotImplemented) => {
            Err(Errno::ENOSYS.into())
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Each name of a test once, as it is called and as it is found.
macro_rules! attempt {
    ($name:ident, $walls:expr, $attempt:expr, $outcome:expr) => {
        #[test]
        fn $name() {
            assert_eq!(inside($walls, stringify!($name), $attempt), $outcome);
        }
    };
}

const REFUSED: Outcome = Outcome::Refused(Errno::EPERM);
const KILLED: Outcome = Outcome::Killed(Signal::SIGSYS);

fn open() -> io::Result<()> {
    File::open("/etc/passwd").map(drop)
}

#[expect(clippy::disallowed_methods, reason = "a worker must not be able to")]
fn bind() -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)
}

fn socket(family: AddressFamily, kind: SockType) -> io::Result<()> {
    Ok(nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).map(drop)?)
}

attempt!(reading_a_file_is_refused, both, open, REFUSED);
attempt!(listing_a_directory_is_refused, both, || fs::read_dir("/proc/self/fd").map(drop), REFUSED);
attempt!(creating_a_file_is_refused, both, || File::create("/tmp/kakehi-test").map(drop), REFUSED);
attempt!(removing_a_file_is_refused, both, || fs::remove_file("/tmp/kakehi-test"), REFUSED);
attempt!(listening_is_refused, both, bind, REFUSED);
attempt!(datagrams_are_refused, both, || UdpSocket::bind("127.0.0.1:0").map(drop), REFUSED);
attempt!(
    unix_sockets_are_refused_if_there_are_to_be_none,
    both_without_unix,
    || UnixStream::connect("/run/kakehi.sock").map(drop),
    REFUSED
);
attempt!(unix_datagrams_are_refused, both, || socket(AddressFamily::Unix, SockType::Datagram), REFUSED);
attempt!(
    listening_on_a_unix_socket_is_refused,
    both,
    || UnixListener::bind("/tmp/kakehi-test.sock").map(drop),
    REFUSED
);
attempt!(
    talking_to_the_kernel_about_networks_is_refused,
    both,
    || socket(AddressFamily::Netlink, SockType::Raw),
    REFUSED
);
attempt!(raw_sockets_are_refused, both, || socket(AddressFamily::Inet, SockType::Raw), REFUSED);
attempt!(memory_that_runs_is_refused, both, executable_memory, REFUSED);
attempt!(executing_a_program_kills, both, || Err(Command::new("/bin/true").exec()), KILLED);
attempt!(starting_a_process_kills, both, || Command::new("/bin/true").status().map(drop), KILLED);
attempt!(starting_a_thread_kills, both, || std::thread::Builder::new().spawn(|| {}).map(drop), KILLED);
attempt!(
    becoming_another_user_kills,
    both,
    || Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(1))?),
    KILLED
);
attempt!(aborting_is_an_abort, both, || std::process::abort(), Outcome::Killed(Signal::SIGABRT));
attempt!(a_panic_costs_no_more_than_it_did, both, panic_and_go_on, Outcome::Done);

/// Connects to a Unix socket that another process has made: the one that runs the tests.
fn connect_to_unix(walls: fn() -> io::Result<()>, test: &str, is_abstract: bool) -> Outcome {
    let parent = match std::env::var_os(INSIDE) {
        Some(_) => nix::unistd::getppid(),
        None => nix::unistd::getpid(),
    };
    let name = format!("kakehi-sandbox-{test}-{parent}");
    let path = std::env::temp_dir().join(&name);
    let address = match is_abstract {
        true => SocketAddr::from_abstract_name(&name),
        false => SocketAddr::from_pathname(&path),
    };
    let address = address.expect("an address");
    let _listener = std::env::var_os(INSIDE).is_none().then(|| {
        let _left_behind = fs::remove_file(&path);
        UnixListener::bind_addr(&address).expect("a socket")
    });
    let outcome = inside(walls, test, || UnixStream::connect_addr(&address).map(drop));
    let _abstract_ones_have_none = fs::remove_file(&path);
    outcome
}

#[test]
fn backends_on_unix_sockets_are_in_reach() {
    let test = "backends_on_unix_sockets_are_in_reach";
    assert_eq!(connect_to_unix(both, test, false), Outcome::Done);
}

#[test]
fn backends_with_abstract_names_are_in_reach() {
    let test = "backends_with_abstract_names_are_in_reach";
    assert_eq!(connect_to_unix(both, test, true), Outcome::Done);
}

#[test]
fn paths_are_in_reach_without_abstract_names() {
    let test = "paths_are_in_reach_without_abstract_names";
    assert_eq!(connect_to_unix(both_with_paths, test, false), Outcome::Done);
}

#[test]
fn abstract_names_are_out_of_reach_if_only_paths_are_wanted() {
    let test = "abstract_names_are_out_of_reach_if_only_paths_are_wanted";
    let outcome = connect_to_unix(landlock_of_paths, test, true);
    if outcome == Outcome::Refused(Errno::ENOSYS) {
        let _unheard =
            writeln!(io::stderr(), "\nSKIPPED: this kernel has no Landlock that knows of abstract sockets");
        return;
    }
    assert_eq!(outcome, REFUSED);
}

/// ENOSYS for a kernel without what is to be seen at work.
fn landlock_of_paths() -> io::Result<()> {
    match landlock::enter(UnixSockets::Paths) {
        Ok(abi) if abi >= ::landlock::ABI::V6 => Ok(()),
        Ok(_) | Err(landlock::LandlockError::NotEnabled | landlock::LandlockError::NotImplemented) => {
            Err(Errno::ENOSYS.into())
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

#[test]
fn signals_to_others_kill() {
    let parent = nix::unistd::getppid();
    // No signal at all, only the question whether it could be sent.
    let outcome = inside(both, "signals_to_others_kill", || Ok(nix::sys::signal::kill(parent, None)?));
    assert_eq!(outcome, KILLED);
}

attempt!(seccomp_alone_keeps_files, seccomp_alone, open, REFUSED);
attempt!(seccomp_alone_keeps_ports, seccomp_alone, bind, REFUSED);

#[test]
fn landlock_alone_keeps_files_and_ports() {
    let attempt = || match (open(), bind()) {
        (Err(file), Err(port)) if file.raw_os_error() == port.raw_os_error() => Err(file),
        (file, port) => panic!("{file:?}, {port:?}"),
    };
    let outcome = inside(landlock_alone, "landlock_alone_keeps_files_and_ports", attempt);
    if outcome == Outcome::Refused(Errno::ENOSYS) {
        // As the end-to-end tests say it, past the capturing of test output.
        let _unheard =
            writeln!(io::stderr(), "\nSKIPPED: this kernel has no Landlock, or none that knows of ports");
        return;
    }
    assert_eq!(outcome, Outcome::Refused(Errno::EACCES));
}

fn executable_memory() -> io::Result<()> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let page = std::num::NonZeroUsize::new(4096).expect("not zero");
    // SAFETY: a new mapping, wherever the kernel likes, which nothing uses.
    let mapped = unsafe {
        mmap_anonymous(None, page, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC, MapFlags::MAP_PRIVATE)
    };
    Ok(mapped.map(drop)?)
}

/// As in the dispatch of a session. The hook looks for the symbols of its backtrace in files.
fn panic_and_go_on() -> io::Result<()> {
    let caught = std::panic::catch_unwind(|| panic!("a bug in a session"));
    assert!(caught.is_err());
    writeln!(io::stdout(), "the log goes on")
}

/// What a worker does with its kernel, apart from the library that does it.
#[test]
#[expect(clippy::disallowed_methods, reason = "real sockets and clocks are what this is about")]
fn what_workers_do_is_allowed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("a socket of ours");
    let address = listener.local_addr().expect("its address");
    let (channel, main) = UnixStream::pair().expect("a pair of sockets");
    let memory = shared_memory::create(4096).expect("memory");
    let attempt = || {
        shared_memory::map(&memory, 4096)?[0].store(1, Ordering::Relaxed);
        let mut poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), Token(0), Interest::READABLE)?;
        let mut back = mio::net::TcpStream::connect(address)?;
        poll.registry().register(&mut back, Token(1), Interest::READABLE | Interest::WRITABLE)?;
        poll.poll(&mut Events::with_capacity(4), Some(Duration::from_secs(10)))?;
        let (front, peer) = listener.accept()?;
        assert_eq!((back.local_addr()?, back.take_error()?.is_none()), (peer, true));
        setsockopt(&front, sockopt::TcpNoDelay, &true)?;
        front.set_nonblocking(false)?;
        relay(front.try_clone()?, &mut back)?;
        talk(&channel, &main)?;
        front.shutdown(std::net::Shutdown::Write)?;
        // Large enough for the kernel to be asked for it, and given back.
        let large = vec![1_u8; 4 << 20];
        assert_eq!(large.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 4 << 20);
        drop(large);
        let _keys_from_the_kernel = std::hash::RandomState::new();
        let (_monotonic, _wall) = (std::time::Instant::now(), std::time::SystemTime::now());
        writeln!(io::stdout(), "a line of the log")
    };
    assert_eq!(inside(both, "what_workers_do_is_allowed", attempt), Outcome::Done);
}

/// Bytes there, through buffers, and back, through a pipe.
fn relay(mut front: TcpStream, back: &mut mio::net::TcpStream) -> io::Result<()> {
    assert_eq!(back.write_vectored(&[IoSlice::new(b"hello "), IoSlice::new(b"there")])?, 11);
    let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 16))?;
    assert_eq!(splice(&front, None, &writer, None, 1024, SpliceFFlags::SPLICE_F_MOVE)?, 11);
    assert_eq!(splice(&reader, None, &front, None, 1024, SpliceFFlags::SPLICE_F_MOVE)?, 11);
    front.write_all(b"!")?;
    let mut read = Vec::new();
    while read.len() < 12 {
        let mut piece = [0; 12];
        match back.read(&mut piece) {
            Ok(bytes) => read.extend_from_slice(&piece[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    assert_eq!(read, b"hello there!");
    Ok(())
}

/// A message with a descriptor, as listening sockets come.
fn talk(channel: &UnixStream, main: &UnixStream) -> io::Result<()> {
    let (mut space, mut control, mut came) = ([0; 16], ControlBuffer::new(), VecDeque::new());
    let socket = main.try_clone()?;
    scm::send(main.as_fd(), b"a socket", &[socket.into()], Wait::AsSocket)?;
    assert_eq!(scm::receive(channel.as_fd(), &mut space, Some(&mut control), &mut came, Wait::Never)?, 8);
    assert_eq!(came.len(), 1);
    Ok(())
}

/// Drawing randomness, agreeing on keys and signing, after what workers do beforehand.
#[test]
fn cryptography_is_allowed() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let _authorities = crate::worker::warm_up();
    let attempt = || {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(io::Error::other)?;
        key.sign(&random, b"a handshake").map_err(io::Error::other)?;
        Ok(())
    };
    assert_eq!(inside(both, "cryptography_is_allowed", attempt), Outcome::Done);
}
