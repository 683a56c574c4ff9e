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

pub use worker::{Idle, Turn, Worker};

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

/// The error log of the process that a worker runs in.
#[derive(Debug, Clone, Copy)]
pub struct ErrorLog {
    /// Changes what is logged; says what is wrong with the filter.
    pub set_filter: fn(&str) -> Result<(), String>,
    /// Logs there from now on.
    pub set_sink: fn(LogSink),
    /// Writes no more than so many lines in a second from now on (`max_log_rate`).
    pub set_rate: fn(u32),
    /// Lines that were lost since the process began.
    pub lost: fn() -> u64,
}

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerArguments {
    /// The channel to the main process.
    pub channel: UnixStream,
    /// Readable, without waiting, when somebody wants this process to end.
    pub stop_signals: OwnedFd,
    /// How main processes of this version hand over.
    pub protocol: u32,
    /// The log of this process.
    pub log: ErrorLog,
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
    let WorkerArguments { channel, stop_signals, protocol, log, .. } = arguments;
    let mut control = Control::new(channel, protocol, log);
    let boot = loop {
        if let Some(boot) = control.receive_boot()? {
            break boot;
        }
        wait(&mut poll, &mut events, None)?;
    };
    (arguments.log.set_rate)(boot.config.max_log_rate());
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
    let mut wall = Wall::new(worker.origin());
    let mut turns = Turns::default();
    loop {
        let sleep = if busy {
            Some(Duration::ZERO)
        } else {
            control::until(worker.next_wakeup().into_iter().chain(until).min(), time)
        };
        let asked = now();
        wait(poll, events, sleep)?;
        time = now();
        let (nanos, unix_ns) = wall.at(time);
        if let Some((turn, weight)) = turns.next(nanos) {
            let slept = time.saturating_duration_since(asked);
            worker.note_turn(turn.saturating_sub(slept), slept, weight);
        }
        worker.begin_turn(&Turn { asked, now: time, nanos, unix_ns });
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

/// One in so many short turns is measured, and counts as all of them: each would cost a hundredth of a request.
const SHORT_TURNS_TO_ONE: u64 = 8;

/// A turn that took longer, with the wait before it, is measured by itself.
const SHORT_TURN_MAX: u64 = 1_000_000;

/// Which turns are measured.
#[derive(Debug, Default)]
struct Turns {
    /// Short ones.
    count: u64,
    /// When the last one ended.
    last: u64,
}

impl Turns {
    /// A turn, and the wait behind it, are over at so many nanoseconds. If they are to be measured: how long both took,
    /// and how many they count as.
    fn next(&mut self, nanos: u64) -> Option<(Duration, u64)> {
        let took = nanos.saturating_sub(std::mem::replace(&mut self.last, nanos));
        if took > SHORT_TURN_MAX {
            return Some((Duration::from_nanos(took), 1));
        }
        self.count = self.count.wrapping_add(1);
        self.count
            .is_multiple_of(SHORT_TURNS_TO_ONE)
            .then(|| (Duration::from_nanos(took), SHORT_TURNS_TO_ONE))
    }
}

/// For so long the wall clock is taken to go as the other one does: what an operator sets it by is seen that much later.
const WALL_TIME_MAX: u64 = 100_000_000;

/// Wall time without asking for it in each turn.
struct Wall {
    origin: Instant,
    /// What the wall clock said at the origin.
    unix_ns: u64,
    /// When it is to be asked again.
    due: u64,
}

impl Wall {
    fn new(origin: Instant) -> Self {
        Self { origin, unix_ns: 0, due: 0 }
    }

    /// Nanoseconds since the origin, and since 1970.
    fn at(&mut self, now: Instant) -> (u64, u64) {
        let elapsed = now.saturating_duration_since(self.origin);
        let nanos = elapsed.as_secs().saturating_mul(1_000_000_000) + u64::from(elapsed.subsec_nanos());
        if nanos >= self.due {
            self.due = nanos.saturating_add(WALL_TIME_MAX);
            self.unix_ns = unix_ns().saturating_sub(nanos);
        }
        (nanos, self.unix_ns.saturating_add(nanos))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_turns_are_measured_and_short_ones_by_eighths() {
        let mut turns = Turns::default();
        let (mut nanos, mut counted) = (0, 0);
        for _ in 0..80 {
            nanos += 500_000;
            if let Some((took, weight)) = turns.next(nanos) {
                assert_eq!((took, weight), (Duration::from_micros(500), 8));
                counted += weight;
            }
        }
        assert_eq!(counted, 80);
        for _ in 0..3 {
            nanos += 1_000_001;
            assert_eq!(turns.next(nanos), Some((Duration::from_nanos(1_000_001), 1)));
        }
    }
}
