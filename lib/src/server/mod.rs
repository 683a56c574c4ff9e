//! The loop of one worker.
//!
//! A turn: what main sent, timers, ready sockets, sessions that had used up their share, answers to
//! main. The clock is read once a turn. [`worker::Worker`] is all of it but the poll.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::time::{ClockId, clock_gettime};

pub mod control;
mod logs;
mod orders;
pub mod timers;
pub mod worker;

pub use worker::{Idle, Worker};

use crate::net::kernel::{Kernel, readiness};
use crate::net::log_sink::LogSink;
use crate::tls::client_config::SystemAuthorities;
use control::{Control, ControlError, Wish};

/// Events taken from the kernel at a time.
const EVENTS_PER_TURN_MAX: usize = 1024;

/// Not an index into any table.
const CHANNEL: Token = Token(usize::MAX);

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerArguments {
    /// The channel to the main process.
    pub channel: UnixStream,
    /// Changes what this process logs; says what is wrong with the filter.
    pub set_log_filter: fn(&str) -> Result<(), String>,
    /// Logs there from now on.
    pub set_log_sink: fn(LogSink),
    /// Whose certificates the system takes; read already, if this process may not open files any more.
    pub authorities: SystemAuthorities,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Told to stop, and everything in flight was finished.
    Drained,
    /// Told to stop at once.
    Stopped,
    /// The main process is gone; everything in flight was finished.
    Orphaned,
}

/// Why a worker could not run, or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel refused something the loop needs.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The talk with main broke.
    #[error(transparent)]
    Control(#[from] ControlError),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> WorkerError {
    move |source| WorkerError::Io { what, source }
}

/// Runs one worker until main tells it to stop, or is gone.
pub fn run(arguments: WorkerArguments) -> Result<Exit, WorkerError> {
    let mut poll = Poll::new().map_err(io_error("creating the poll"))?;
    let fd = arguments.channel.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), CHANNEL, Interest::READABLE)
        .map_err(io_error("watching the channel"))?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
    let mut control = Control::new(arguments.channel, arguments.set_log_filter, arguments.set_log_sink);
    let boot = loop {
        if let Some(boot) = control.receive_boot()? {
            break boot;
        }
        wait(&mut poll, &mut events, None)?;
    };
    let registry = poll.registry().try_clone().map_err(io_error("cloning the registry"))?;
    let seed = RandomState::new().hash_one(boot.worker_id);
    let configuration = control::configuration(&boot, seed);
    let mut worker = Worker::new(Kernel::new(registry), configuration, now());
    worker.take_authorities(arguments.authorities);
    if let Some(settings) = logs::settings(&boot) {
        worker.log_accesses(settings);
    }
    let bits = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
    let config = &boot.config;
    let prefixes = (bits(config.subnet_ipv4_prefix()), bits(config.subnet_ipv6_prefix()));
    worker.set_fixed_limits(config.retry_after(), prefixes);
    worker.set_limit_clock(now(), nanoseconds()?);
    serve(&mut poll, &mut events, &mut control, &mut worker)
}

fn serve(
    poll: &mut Poll,
    events: &mut Events,
    control: &mut Control,
    worker: &mut Worker<Kernel>,
) -> Result<Exit, WorkerError> {
    let mut busy = true;
    let mut ending: Option<Exit> = None;
    let mut time = now();
    loop {
        let sleep = if busy { Some(Duration::ZERO) } else { control::until(worker.next_wakeup(), time) };
        let asked = now();
        wait(poll, events, sleep)?;
        time = now();
        let unix_ns = unix_ns();
        worker.tick(asked, time, unix_ns / 1_000_000);
        worker.set_log_time(unix_ns);
        let mut told = control.has_unread();
        for event in events.iter().filter(|event| event.token() == CHANNEL) {
            told = true;
            if event.is_read_closed() || event.is_write_closed() || event.is_error() {
                control.note_end();
            }
        }
        if told && ending != Some(Exit::Orphaned) {
            match control.receive(worker)? {
                Wish::Serve => {}
                Wish::Stop => {
                    worker.flush_log(true);
                    return Ok(Exit::Stopped);
                }
                Wish::Drain(idle) => ending = Some(begin_end(worker, idle, Exit::Drained)),
                Wish::Orphaned => {
                    log::warn!("the main process is gone: finishing what is in flight");
                    ending = Some(begin_end(worker, Idle::Closed, Exit::Orphaned));
                }
            }
        }
        worker.handle_timers();
        let of_sockets = events.iter().filter(|event| event.token() != CHANNEL);
        worker.handle_events(of_sockets.map(|event| (event.token().0, readiness(event))));
        busy = worker.handle_leftovers() | control.has_unread();
        worker.flush_log(false);
        if let Some(exit) = ending
            && worker.session_count() == 0
        {
            worker.flush_log(true);
            return finish(poll, events, control, exit);
        }
        if ending != Some(Exit::Orphaned) {
            control.report(worker.take_verdicts())?;
            control.report_departures(worker.take_departures())?;
            flush(poll, control)?;
        }
    }
}

/// Sends what is queued for main; true if nothing waits. Room is of interest from the first time on that there
/// is none: each acknowledgement that main takes would wake us otherwise.
fn flush(poll: &Poll, control: &mut Control) -> Result<bool, WorkerError> {
    let flushed = control.flush()?;
    if !flushed && control.needs_room() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .reregister(&mut SourceFd(&control.descriptor()), CHANNEL, both)
            .map_err(io_error("watching the channel"))?;
    }
    Ok(flushed)
}

fn begin_end(worker: &mut Worker<Kernel>, idle: Idle, exit: Exit) -> Exit {
    worker.drain(idle);
    exit
}

/// Tells main that nothing is in flight any more.
fn finish(
    poll: &mut Poll,
    events: &mut Events,
    control: &mut Control,
    exit: Exit,
) -> Result<Exit, WorkerError> {
    if exit == Exit::Drained {
        control.drained()?;
        while !flush(poll, control)? {
            wait(poll, events, None)?;
        }
    }
    Ok(exit)
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<(), WorkerError> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
            Err(WorkerError::Io { what: "waiting for events", source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the loop is where time comes in, once a turn")]
fn now() -> Instant {
    Instant::now()
}

/// The same clock as [`now`], from its own beginning: workers can compare it.
fn nanoseconds() -> Result<u64, WorkerError> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(io::Error::from);
    let time = Duration::from(time.map_err(io_error("reading the clock"))?);
    Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the loop is where time comes in, once a turn")]
fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
