//! The loop of one worker.
//!
//! A turn: what main sent, timers, ready sockets, sessions that had used up their share, answers to
//! main. The clock is read once a turn. [`worker::Worker`] is all of it but the poll.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::time::{ClockId, clock_gettime};

pub mod control;
mod logs;
mod orders;
mod orphan;
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

/// As [`CHANNEL`]: where another main process comes to.
const RENDEZVOUS: Token = Token(usize::MAX - 1);

/// As [`CHANNEL`]: signals.
const SIGNALS: Token = Token(usize::MAX - 2);

/// More than two signals' words (signalfd(2)) at once make no difference.
const SIGNAL_BYTES: usize = 256;

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerArguments {
    /// The channel to the main process.
    pub channel: UnixStream,
    /// Readable, without waiting, when somebody wants this process to end.
    pub stop_signals: OwnedFd,
    /// How main processes of this version hand over.
    pub protocol: u32,
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
    watch(&poll, arguments.channel.as_raw_fd(), CHANNEL)?;
    watch(&poll, arguments.stop_signals.as_raw_fd(), SIGNALS)?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
    let WorkerArguments { channel, stop_signals, protocol, set_log_filter, set_log_sink, .. } = arguments;
    let mut control = Control::new(channel, protocol, set_log_filter, set_log_sink);
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
    serve(&mut poll, &mut events, &mut control, &mut worker, &stop_signals)
}

fn serve(
    poll: &mut Poll,
    events: &mut Events,
    control: &mut Control,
    worker: &mut Worker<Kernel>,
    stop_signals: &OwnedFd,
) -> Result<Exit, WorkerError> {
    let mut busy = true;
    // When a worker whose main process is gone ends.
    let mut until: Option<Instant> = None;
    let mut ending: Option<Exit> = None;
    let mut time = now();
    loop {
        let sleep = if busy {
            Some(Duration::ZERO)
        } else {
            control::until(worker.next_wakeup().into_iter().chain(until).min(), time)
        };
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
        if events.iter().any(|event| event.token() == SIGNALS) && is_stop_asked_for(stop_signals) {
            match ending {
                // Main was told, too, or should have been.
                _ if !control.is_orphan() => log::debug!("a signal: main decides when this worker ends"),
                Some(Exit::Orphaned) => {
                    worker.flush_log(true);
                    return Ok(Exit::Stopped);
                }
                _ => {
                    log::info!("stop, asked for by a signal");
                    ending = Some(begin_end(worker, Idle::Closed, Exit::Orphaned));
                }
            }
        }
        if until.is_some_and(|at| at <= time) && control.is_orphan() {
            log::warn!("no main process has come in time (worker_orphan_timeout)");
            until = None;
            ending = Some(begin_end(worker, Idle::Closed, Exit::Orphaned));
        }
        if control.is_orphan()
            && events.iter().any(|event| event.token() == RENDEZVOUS)
            && let Some(stream) = control.keepsakes().next_main()
        {
            take_main(poll, control, stream)?;
            until = None;
            told = true;
        }
        if told && !control.is_orphan() {
            match control.receive(worker)? {
                Wish::Serve => {}
                Wish::Stop => {
                    worker.flush_log(true);
                    return Ok(Exit::Stopped);
                }
                Wish::Drain(idle) => ending = Some(begin_end(worker, idle, Exit::Drained)),
            }
            if control.has_ended() {
                if !control.has_started() {
                    return Ok(Exit::Orphaned);
                }
                if lose_main(poll, control, worker)? {
                    until = control.keepsakes().timeout().and_then(|timeout| time.checked_add(timeout));
                } else {
                    ending = ending.or_else(|| Some(begin_end(worker, Idle::Closed, Exit::Orphaned)));
                }
            }
        }
        worker.handle_timers();
        let of_sockets = events.iter().filter(|event| event.token().0 < SIGNALS.0);
        worker.handle_events(of_sockets.map(|event| (event.token().0, readiness(event))));
        busy = worker.handle_leftovers() | control.has_unread();
        worker.flush_log(false);
        if let Some(exit) = ending
            && worker.session_count() == 0
        {
            worker.flush_log(true);
            return finish(poll, events, control, exit);
        }
        if control.is_orphan() {
            // The next main process is told.
            worker.condense_verdicts();
            continue;
        }
        control.report(worker.take_verdicts())?;
        control.report_departures(worker.take_departures())?;
        let more = control.tell_more()?;
        busy |= flush(poll, control)? && more;
        busy |= control.has_unread();
    }
}

/// Sends what is queued for main; true if nothing waits. Room is of interest from the first time on that there
/// is none: each acknowledgement that main takes would wake us otherwise.
fn flush(poll: &Poll, control: &mut Control) -> Result<bool, WorkerError> {
    let flushed = control.flush()?;
    if !flushed
        && control.needs_room()
        && let Some(descriptor) = control.descriptor()
    {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .reregister(&mut SourceFd(&descriptor), CHANNEL, both)
            .map_err(io_error("watching the channel"))?;
    }
    Ok(flushed)
}

/// Main is gone: from now on another one may come. False if none can.
fn lose_main(poll: &Poll, control: &mut Control, worker: &mut Worker<Kernel>) -> Result<bool, WorkerError> {
    if let Some(descriptor) = control.descriptor() {
        // It leaves the poll when it is closed, if not now.
        let _gone = poll.registry().deregister(&mut SourceFd(&descriptor));
    }
    control.lose_main();
    // A socket whose order has not come would take in connections that nobody accepts.
    worker.forget_offered();
    let Some(descriptor) = control.keepsakes().descriptor() else {
        log::warn!("the main process is gone: finishing what is in flight");
        return Ok(false);
    };
    log::warn!("the main process is gone: serving on as it was, until another one comes");
    watch(poll, descriptor, RENDEZVOUS)?;
    Ok(true)
}

/// Another main process has come.
fn take_main(poll: &Poll, control: &mut Control, stream: UnixStream) -> Result<(), WorkerError> {
    if let Some(descriptor) = control.keepsakes().descriptor() {
        let _gone = poll.registry().deregister(&mut SourceFd(&descriptor));
    }
    watch(poll, stream.as_raw_fd(), CHANNEL)?;
    control.take_main(stream);
    Ok(())
}

fn watch(poll: &Poll, descriptor: RawFd, token: Token) -> Result<(), WorkerError> {
    poll.registry()
        .register(&mut SourceFd(&descriptor), token, Interest::READABLE)
        .map_err(io_error("watching the channel"))
}

/// Takes the signals that have come. Whether there were any.
fn is_stop_asked_for(signals: &OwnedFd) -> bool {
    let mut asked = false;
    while nix::unistd::read(signals, &mut [0; SIGNAL_BYTES]).is_ok_and(|bytes| bytes > 0) {
        asked = true;
    }
    asked
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
    if control.is_orphan() {
        return Ok(Exit::Orphaned);
    }
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
