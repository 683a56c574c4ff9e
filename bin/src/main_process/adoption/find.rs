//! Finding the workers of a main process that was killed, and hearing from them all that it takes to go on.
//!
//! Before there is a loop, so it waits, each time with a deadline. A worker that does not answer is ended, if another one
//! does: nobody could tell it anything, and its slot gets another one. All else that is wrong ends the start and leaves
//! the workers be. If none answers, their state would be lost with them, and it may be the machine that hangs.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kakehi_command::channel::{BlockingChannel, Channel, ChannelError};
use kakehi_command::order::{ListenerKey, Order};
use kakehi_command::proto::hand_over::Testament;
use kakehi_command::proto::supervision::{
    Adopt, FromWorker, Orphan, TellState, ToWorker, from_worker, to_worker,
};
use kakehi_command::state::ConfigState;

use super::super::gather::WorkerId;
use super::super::hand_over::PROTOCOL;
use super::super::supervisor::WORKER_FRAME_BYTES_MAX;
use super::rendezvous::{Place, Rendezvous};
use super::testament;
use crate::process::child::Process;
use crate::process::descriptors;

/// Each worker is listened to for so long at least: it was asked at the same time as those before it.
const LOOK_MIN: Duration = Duration::from_millis(100);

/// How long the kernel may take to end a process that was killed.
const END_MAX: Duration = Duration::from_secs(5);

/// Between two looks whether it has.
const END_LOOK: Duration = Duration::from_millis(5);

/// What a worker may say unasked while it is asked for something else.
const SAID_MAX: usize = 10_000;

/// Everything that a main process goes on from.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the main process before has left.
    pub(in super::super) told: Testament,
    pub(in super::super) sessions: Option<OwnedFd>,
    pub(in super::super) limits: OwnedFd,
    /// The highest that a worker has.
    pub(in super::super) state: ConfigState,
    pub(in super::super) revision: u64,
    pub(in super::super) workers: Vec<FoundWorker>,
}

/// A worker that serves without a main process.
#[derive(Debug)]
pub(in super::super) struct FoundWorker {
    pub(in super::super) id: WorkerId,
    pub(in super::super) slot: usize,
    pub(in super::super) process: Process,
    pub(in super::super) channel: Channel<ToWorker, FromWorker>,
    /// The revision that it has.
    pub(in super::super) revision: u64,
    pub(in super::super) retires: bool,
    pub(in super::super) lane: Option<u32>,
    pub(in super::super) sockets: Vec<(ListenerKey, OwnedFd)>,
    /// What leads from its state to the highest.
    pub(in super::super) behind: Vec<Order>,
    /// What it has said beside that.
    pub(in super::super) said: Vec<from_worker::Message>,
    pub(super) place: Place,
}

/// A worker that is being asked.
struct Asked {
    place: Place,
    process: Process,
    /// None if it does not even take a connection.
    channel: Option<BlockingChannel<ToWorker, FromWorker>>,
    said: Vec<from_worker::Message>,
}

/// What a worker has said of itself.
struct Heard {
    asked: Asked,
    orphan: Orphan,
    testament: Option<OwnedFd>,
    sessions: Option<OwnedFd>,
    limits: Option<OwnedFd>,
    sockets: Vec<(ListenerKey, OwnedFd)>,
    /// Of one that is behind.
    behind: Vec<Order>,
}

/// Why a worker has said nothing.
enum Mute {
    /// It hangs.
    Silent,
    /// It has ended meanwhile.
    Gone,
    /// It can't be gone on with, in words.
    Wrong(String),
}

/// Asks all workers that wait in the folder. None if there are none.
///
/// # Errors
/// In words: why this program can't go on with them.
pub(in super::super) fn find(rendezvous: &Rendezvous, patience: Duration) -> Result<Option<Found>, String> {
    let asked = knock_everywhere(rendezvous, patience)?;
    if asked.is_empty() {
        return Ok(None);
    }
    let pids: Vec<String> = asked.iter().map(|asked| asked.place.pid.to_string()).collect();
    let remedy = format!("or end them: kill {}", pids.join(" "));
    let deadline = now() + patience;
    let (mut heard, mut silent) = (Vec::new(), Vec::new());
    for mut asked in asked {
        match asked.introduction(deadline) {
            Ok(introduction) => heard.push(introduction.of(asked)),
            Err(Mute::Silent) => silent.push(asked),
            Err(Mute::Gone) => rendezvous.remove(&asked.place.name),
            Err(Mute::Wrong(why)) => {
                return Err(format!("{}: {why}; mend that, {remedy}", asked.place.words()));
            }
        }
    }
    if heard.is_empty() && !silent.is_empty() {
        return Err(format!(
            "none of them answers within {patience:?} (worker_timeout), and the state is theirs: start again, {remedy} \
             (with -9 if they hang), which starts from the configuration"
        ));
    }
    for Heard { asked, orphan, .. } in &heard {
        check_version(&orphan.version, orphan.protocol)
            .map_err(|why| format!("{}: {why}, {remedy}", asked.place.words()))?;
    }
    let told = match last_testament(&heard) {
        Some(told) => Some(told),
        None if heard.is_empty() => None,
        None => return Err(format!("what the main process before has left cannot be read; {remedy}")),
    };
    if let Some(told) = &told {
        check_version(&told.version, told.protocol)
            .map_err(|why| format!("the main process before: {why}, {remedy}"))?;
        if let Some(Heard { asked, orphan, .. }) = heard.iter().find(|it| it.orphan.slot >= told.slots) {
            let (worker, slot, slots) = (asked.place.words(), orphan.slot, told.slots);
            return Err(format!("{worker}: it has slot {slot} of {slots}; {remedy}"));
        }
    }
    // From here on this is the workers' main process.
    for asked in silent {
        end_hung(rendezvous, asked, &format!("it does not answer within {patience:?}"))?;
    }
    let Some(told) = told else { return Ok(None) };
    let Some((state, revision)) = highest_state(rendezvous, &mut heard, patience)? else { return Ok(None) };
    catch_up(rendezvous, &mut heard, &state, revision, patience)?;
    let sessions = heard.iter_mut().find_map(|it| it.sessions.take());
    let limits = heard.iter_mut().find_map(|it| it.limits.take());
    let limits = limits.ok_or_else(|| format!("no worker has the memory for limits; {remedy}"))?;
    let workers = heard.into_iter().map(Heard::into_found).collect::<io::Result<_>>();
    let workers = workers.map_err(|error| format!("the channel of a worker: {error}"))?;
    Ok(Some(Found { told, sessions, limits, state, revision, workers }))
}

impl Place {
    fn words(&self) -> String {
        format!("worker {} (pid {})", self.worker, self.pid)
    }
}

fn knock_everywhere(rendezvous: &Rendezvous, patience: Duration) -> Result<Vec<Asked>, String> {
    let failed = |place: &Place, error: &dyn std::fmt::Display| format!("{}: {error}", place.words());
    let mut asked = Vec::new();
    for place in rendezvous.places().map_err(|error| format!("the folder of the workers: {error}"))? {
        // Whoever has the socket is this process, if the connection that follows is taken: it had the socket before.
        let pidfd = descriptors::pidfd_of(place.pid);
        let stream = match rendezvous.knock(&place) {
            Ok(None) => {
                rendezvous.remove(&place.name);
                continue;
            }
            Ok(Some(stream)) => Some(stream),
            // So many have come before that it can't be there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => return Err(failed(&place, &error)),
        };
        let pidfd = pidfd.map_err(|error| failed(&place, &format!("it cannot be watched: {error}")))?;
        let process = Process::foreign(place.pid, pidfd);
        let adopt = Adopt { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() };
        let channel = stream.and_then(|stream| {
            let channel = Channel::with_fds(stream, WORKER_FRAME_BYTES_MAX);
            let mut channel = BlockingChannel::from_channel(channel).ok()?;
            channel.send_deadline(&say(to_worker::Message::Adopt(adopt)), Some(patience)).ok()?;
            Some(channel)
        });
        asked.push(Asked { place, process, channel, said: Vec::new() });
    }
    Ok(asked)
}

fn say(message: to_worker::Message) -> ToWorker {
    ToWorker { message: Some(message) }
}

/// What a worker says first.
struct Introduction {
    orphan: Orphan,
    fds: Vec<OwnedFd>,
    sockets: Vec<(ListenerKey, OwnedFd)>,
}

impl Introduction {
    fn of(self, asked: Asked) -> Heard {
        let Self { orphan, fds, sockets } = self;
        let mut fds = fds.into_iter();
        let mut next = |has: bool| if has { fds.next() } else { None };
        let testament = next(orphan.has_testament);
        let sessions = next(orphan.has_sessions);
        let limits = next(orphan.has_limits);
        Heard { asked, orphan, testament, sessions, limits, sockets, behind: Vec::new() }
    }
}

impl Asked {
    /// Waits for what the worker says of itself.
    fn introduction(&mut self, deadline: Instant) -> Result<Introduction, Mute> {
        let from_worker::Message::Orphan(orphan) =
            self.await_message(deadline, |message| matches!(message, from_worker::Message::Orphan(_)))?
        else {
            return Err(Mute::Silent);
        };
        let count = [orphan.has_testament, orphan.has_sessions, orphan.has_limits];
        let fds = self.take_fds(count.into_iter().filter(|has| *has).count())?;
        let mut sockets = Vec::new();
        while sockets.len() < orphan.sockets as usize && orphan.protocol == PROTOCOL {
            let is_it = |message: &from_worker::Message| matches!(message, from_worker::Message::Sockets(_));
            let from_worker::Message::Sockets(part) = self.await_message(deadline, is_it)? else {
                return Err(Mute::Silent);
            };
            if part.sockets.is_empty() {
                return Err(Mute::Wrong("it announced more sockets than it sent".to_owned()));
            }
            let fds = self.take_fds(part.sockets.len())?;
            for (socket, fd) in part.sockets.iter().zip(fds) {
                let key = ListenerKey::from_wire(&socket.address, socket.interface.as_deref());
                sockets.push((key.map_err(|error| Mute::Wrong(error.to_string()))?, fd));
            }
        }
        Ok(Introduction { orphan, fds, sockets })
    }

    /// Waits for a message of a kind; what else comes is kept.
    fn await_message(
        &mut self,
        deadline: Instant,
        is_it: impl Fn(&from_worker::Message) -> bool,
    ) -> Result<from_worker::Message, Mute> {
        loop {
            let Some(channel) = &mut self.channel else { return Err(Mute::Silent) };
            // Others may have used up the time: what has come is heard all the same.
            let left = deadline.saturating_duration_since(now()).max(LOOK_MIN);
            match channel.receive_deadline(Some(left)) {
                Ok(FromWorker { message: Some(message) }) if is_it(&message) => return Ok(message),
                Ok(FromWorker { message: Some(message) }) if self.said.len() < SAID_MAX => {
                    self.said.push(message);
                }
                Ok(_) => return Err(Mute::Wrong("it says what this version does not understand".to_owned())),
                Err(ChannelError::TimedOut) => return Err(Mute::Silent),
                Err(ChannelError::Closed | ChannelError::Io(_)) => {
                    return Err(match self.ends_within(END_MAX) {
                        true => Mute::Gone,
                        false => Mute::Wrong("it takes no order from this user".to_owned()),
                    });
                }
                Err(error) => return Err(Mute::Wrong(error.to_string())),
            }
        }
    }

    fn take_fds(&mut self, count: usize) -> Result<Vec<OwnedFd>, Mute> {
        let fds = self.channel.as_mut().and_then(|channel| channel.take_fds(count));
        fds.ok_or_else(|| Mute::Wrong("fewer descriptors came than it said".to_owned()))
    }

    /// The state that it serves.
    fn state(&mut self, patience: Duration) -> Result<(ConfigState, u64), String> {
        let Some(channel) = &mut self.channel else { return Err("it hangs".to_owned()) };
        let asked = channel.send_deadline(&say(to_worker::Message::TellState(TellState {})), Some(patience));
        asked.map_err(|error| error.to_string())?;
        let mut state = ConfigState::default();
        loop {
            let is_it = |message: &from_worker::Message| matches!(message, from_worker::Message::State(_));
            let part = match self.await_message(now() + patience, is_it) {
                Ok(from_worker::Message::State(part)) => part,
                Ok(_) | Err(Mute::Silent) => {
                    return Err(format!("it did not tell its state within {patience:?}"));
                }
                Err(Mute::Gone) => return Err("it has ended".to_owned()),
                Err(Mute::Wrong(why)) => return Err(why),
            };
            for request in &part.requests {
                let order = Order::from_request(request).map_err(|error| format!("its state: {error}"))?;
                state.apply(&order).map_err(|error| format!("its state: {error}"))?;
            }
            if part.last {
                return Ok((state, part.revision));
            }
        }
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let until = now() + time;
        loop {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return true;
            }
            if now() >= until {
                return false;
            }
            wait(END_LOOK);
        }
    }
}

impl Heard {
    /// The channel takes no descriptors from here on.
    fn into_found(self) -> io::Result<FoundWorker> {
        let Self { asked, orphan, sockets, behind, .. } = self;
        let Asked { place, process, channel, said } = asked;
        let channel = channel.ok_or(io::ErrorKind::NotConnected)?.into_channel();
        let stream = channel.stream().try_clone()?;
        stream.set_nonblocking(true)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let channel = Channel::resume(stream, WORKER_FRAME_BYTES_MAX, channel.unread(), channel.unsent());
        Ok(FoundWorker {
            id: place.worker,
            slot: orphan.slot as usize,
            process,
            channel: channel.map_err(io::Error::other)?,
            revision: orphan.revision,
            retires: orphan.retires,
            lane: orphan.lane,
            sockets,
            behind,
            said,
            place,
        })
    }
}

fn check_version(version: &str, protocol: u32) -> Result<(), String> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(format!(
        "it is of version {version}, which hands over by protocol {protocol}, and this is version {}, which speaks \
         {PROTOCOL}: start that version",
        env!("CARGO_PKG_VERSION")
    ))
}

fn last_testament(heard: &[Heard]) -> Option<Testament> {
    let read = |it: &Heard| testament::read(&File::from(it.testament.as_ref()?.try_clone().ok()?));
    heard.iter().filter_map(read).max_by_key(|testament| testament.written_at)
}

/// The state of the highest revision: no change that was answered with OK is missing in it. A worker that can't tell
/// its state is ended.
fn highest_state(
    rendezvous: &Rendezvous,
    heard: &mut Vec<Heard>,
    patience: Duration,
) -> Result<Option<(ConfigState, u64)>, String> {
    loop {
        let best = heard.iter().enumerate().max_by_key(|(_, it)| (it.orphan.revision, !it.orphan.retires));
        let Some(index) = best.map(|(index, _)| index) else { return Ok(None) };
        match heard[index].asked.state(patience) {
            Ok(told) => return Ok(Some(told)),
            Err(why) => end_hung(rendezvous, heard.swap_remove(index).asked, &why)?,
        }
    }
}

/// Finds what workers lack that had not heard of the last revision.
fn catch_up(
    rendezvous: &Rendezvous,
    heard: &mut Vec<Heard>,
    state: &ConfigState,
    revision: u64,
    patience: Duration,
) -> Result<(), String> {
    while let Some(index) = heard.iter().position(|it| it.orphan.revision < revision && it.behind.is_empty())
    {
        match heard[index].asked.state(patience) {
            Ok((own, at)) => {
                let it = &mut heard[index];
                it.behind = own.diff(state);
                log::info!(
                    "{} is at revision {at} of {revision}: {} orders behind",
                    it.asked.place.words(),
                    it.behind.len()
                );
                if it.behind.is_empty() {
                    // The same by other numbers: its next revision follows all the same.
                    it.orphan.revision = revision;
                }
            }
            Err(why) => end_hung(rendezvous, heard.swap_remove(index).asked, &why)?,
        }
    }
    Ok(())
}

/// Ends a worker that nobody can speak with.
fn end_hung(rendezvous: &Rendezvous, mut asked: Asked, why: &str) -> Result<(), String> {
    let worker = asked.place.words();
    log::error!(
        "{worker} serves without a main process, and {why}: it is killed, and its slot gets another one"
    );
    asked.process.kill().map_err(|error| format!("{worker} cannot be killed: {error}"))?;
    if !asked.ends_within(END_MAX) {
        return Err(format!("{worker} was killed and does not end"));
    }
    rendezvous.remove(&asked.place.name);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "deadlines before there is a loop")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "before there is a loop")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
