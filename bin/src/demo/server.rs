//! Accepting: one thread for each connection, up to a bound.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::exchange;

/// Connections served at a time. Load generators open a thousand; more than these wait in the kernel's
/// queue until one ends.
const CONNECTIONS_MAX: usize = 4096;

/// A thread reads one request at a time into a small buffer: a small stack will do.
const STACK_BYTES: usize = 128 * 1024;

/// A connection without a request for so long is closed. Longer than proxies keep idle connections
/// (ours: back_idle_timeout, 55 s), so that none of them meets a connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// Breath after an accept failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts connections on a thread of its own, for ever.
pub(super) fn start(listener: TcpListener, name: &str) -> io::Result<JoinHandle<()>> {
    let name: Arc<str> = name.into();
    thread::Builder::new().name("accept".to_owned()).spawn(move || accept(&listener, &name))
}

fn accept(listener: &TcpListener, name: &Arc<str>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            pause();
            continue;
        }
        match listener.accept() {
            Ok((stream, _)) => spawn(stream, Arc::clone(name), &open),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => pause(),
        }
    }
}

/// Serves a connection on a thread of its own; without one, the connection is closed.
fn spawn(stream: TcpStream, name: Arc<str>, open: &Arc<AtomicUsize>) {
    open.fetch_add(1, Ordering::Relaxed);
    let ended = Ended(Arc::clone(open));
    let serve = move || {
        let _ended = ended;
        // Peers come and go as they like: an error ends the connection, which is all there is to do.
        let _error = serve(&stream, &name);
    };
    // Were there no thread, the closure would be dropped, and the stream and the count with it.
    let _thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(serve);
}

fn serve(stream: &TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    let address = stream.local_addr()?;
    exchange::serve(stream, &format!("Hello from the demo backend {name:?} at {address}.\n"))
}

/// Counts a connection down, also if its thread panics.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing would wake this thread; it has no loop to stall")]
fn pause() {
    thread::sleep(ACCEPT_RETRY);
}
