//! The relay: a proxy that parses nothing. What it costs is about what the kernel costs.
//!
//! One thread, edge-triggered, one back connection for each front connection, one read and one write
//! for each message and direction. It runs as a process of its own (a hidden subcommand), so that its
//! processor time is measured as the others' is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::failure::{Context, Failure};

const LISTENER: Token = Token(usize::MAX);
/// More than the messages of the scenario it takes part in.
const READ_BYTES: usize = 64 * 1024;

/// Serves for ever.
///
/// # Errors
/// If it cannot listen or poll.
pub(crate) fn run(listen: SocketAddr, backend: SocketAddr) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen).context(format_args!("listening on {listen}"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut pairs: Slab<Pair> = Slab::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let Token(token) = event.token();
            if event.token() == LISTENER {
                accept(&listener, backend, &poll, &mut pairs)?;
            } else if let Some(pair) = pairs.get_mut(token / 2)
                && pair.advance(token % 2, event.is_readable(), &mut buffer).is_err()
            {
                pairs.remove(token / 2);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    backend: SocketAddr,
    poll: &Poll,
    pairs: &mut Slab<Pair>,
) -> Result<(), Failure> {
    loop {
        let front = match listener.accept() {
            Ok((front, _)) => front,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let back = TcpStream::connect(backend)?;
        let entry = pairs.vacant_entry();
        let mut sides = [Side::new(front)?, Side::new(back)?];
        for (index, side) in sides.iter_mut().enumerate() {
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut side.stream, Token(entry.key() * 2 + index), both)?;
        }
        entry.insert(Pair { sides });
    }
}

struct Side {
    stream: TcpStream,
    /// Bytes for this side that its socket did not take.
    pending: Vec<u8>,
}

impl Side {
    fn new(stream: TcpStream) -> io::Result<Side> {
        stream.set_nodelay(true)?;
        Ok(Side { stream, pending: Vec::new() })
    }
}

struct Pair {
    sides: [Side; 2],
}

impl Pair {
    /// Serves an event of one side. An error ends the pair.
    fn advance(&mut self, index: usize, readable: bool, buffer: &mut [u8]) -> io::Result<()> {
        let [front, back] = &mut self.sides;
        let (this, other) = if index == 0 { (front, back) } else { (back, front) };
        if !this.pending.is_empty() && flush(this)? {
            // Reading from the other side had stopped for it.
            pump(other, this, buffer)?;
        }
        if readable { pump(this, other, buffer) } else { Ok(()) }
    }
}

/// True when nothing is pending any more.
fn flush(side: &mut Side) -> io::Result<bool> {
    while !side.pending.is_empty() {
        match side.stream.write(&side.pending) {
            Ok(count) => {
                side.pending.drain(..count);
            }
            Err(error) if not_now(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn pump(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> io::Result<()> {
    while to.pending.is_empty() {
        let count = match from.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if not_now(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let written = match to.stream.write(bytes) {
            Ok(written) => written,
            Err(error) if not_now(&error) => 0,
            Err(error) => return Err(error),
        };
        to.pending.extend_from_slice(bytes.get(written..).unwrap_or_default());
        if count < buffer.len() {
            return Ok(());
        }
    }
    Ok(())
}

fn not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted)
}
