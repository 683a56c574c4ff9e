//! One worker process: its channel, what waits to be sent to it, and what it has acknowledged.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use kakehi_command::channel::{Channel, ChannelError, FDS_PER_MESSAGE_MAX, Flushed, Received};
use kakehi_command::order::ListenerKey;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::supervision::{
    FromWorker, ListenSocket, ListenSockets, Query, ToWorker, from_worker, to_worker,
};
use kakehi_command::proto::{ListenerType, Status};
use mio::Token;

use crate::main_process::feed::Feed;
use crate::main_process::gather::WorkerId;
use crate::process::child::Process;

/// The channel is given more to send only while less than this waits in it, so that a worker that is
/// slow to read costs a bounded amount of memory.
const SEND_AHEAD_BYTES: usize = 256 * 1024;

/// Id of the question whether a worker is there. Tasks, which count from the other end, never have it.
pub(crate) const HEARTBEAT: u64 = u64::MAX;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not said yet that it serves; it is replaced if it has not by then.
    Booting(Instant),
    /// It serves.
    Serving,
    /// It was told to stop.
    Stopping,
}

/// One worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    id: WorkerId,
    slot: usize,
    pub(super) child: Process,
    channel: Channel<ToWorker, FromWorker>,
    outbox: VecDeque<Outgoing>,
    phase: Phase,
    /// The highest revision it has applied.
    acknowledged: u64,
    spawned_at: Instant,
    /// When it last said something.
    heard_at: Instant,
    /// When it was asked whether it is there, if it has said nothing since.
    asked_at: Option<Instant>,
    /// An event comes when its channel has room.
    watched_for_room: bool,
    /// Under which its channel is watched.
    token: Token,
}

/// Something to be sent, in its most compact form.
#[derive(Debug)]
enum Outgoing {
    Message(Box<to_worker::Message>, Vec<OwnedFd>),
    Feed(Feed),
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        slot: usize,
        child: Process,
        channel: Channel<ToWorker, FromWorker>,
        spawned_at: Instant,
        ready_by: Instant,
    ) -> Self {
        Self {
            id,
            slot,
            child,
            channel,
            outbox: VecDeque::new(),
            phase: Phase::Booting(ready_by),
            acknowledged: 0,
            spawned_at,
            heard_at: spawned_at,
            asked_at: None,
            watched_for_room: false,
            token: Token(usize::MAX),
        }
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn set_token(&mut self, token: Token) {
        self.token = token;
    }

    /// It was somebody else's, and serves, or retires.
    pub(super) fn go_on(&mut self, acknowledged: u64, retires: bool, now: Instant) {
        self.phase = if retires { Phase::Stopping } else { Phase::Serving };
        self.acknowledged = acknowledged;
        self.heard_at = now;
    }

    /// Whether nothing is on its way to it.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && !self.channel.wants_write()
    }

    /// What was read of its channel and not understood yet.
    pub(super) fn unread(&self) -> &[u8] {
        self.channel.unread()
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn spawned_at(&self) -> Instant {
        self.spawned_at
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.channel.as_raw_fd()
    }

    /// The worker has applied `revision`.
    pub(crate) fn acknowledge(&mut self, revision: u64) {
        debug_assert!(self.acknowledged <= revision, "revisions are applied in order");
        self.acknowledged = self.acknowledged.max(revision);
    }

    /// The worker serves. A worker that is stopping stays so.
    pub(crate) fn serves(&mut self) {
        if matches!(self.phase, Phase::Booting(_)) {
            self.phase = Phase::Serving;
        }
    }

    /// The worker has said something.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// Asks a worker whether it is there that has said nothing for `patience`.
    pub(crate) fn ask_if_there(&mut self, now: Instant, patience: Duration) {
        if self.phase == Phase::Serving && self.asked_at.is_none() && self.heard_at + patience <= now {
            self.asked_at = Some(now);
            let request = RequestType::Status(Status {}).into();
            self.send(to_worker::Message::Query(Query { id: HEARTBEAT, request }));
        }
    }

    /// Whether it was asked and has not answered for `patience`. One that is still applying a revision
    /// has the time that is due for that, and is asked anew.
    pub(crate) fn is_silent(&mut self, now: Instant, patience: Duration, revision: u64) -> bool {
        let overdue =
            self.phase == Phase::Serving && self.asked_at.is_some_and(|asked_at| asked_at + patience <= now);
        if overdue && self.acknowledged < revision {
            self.asked_at = Some(now);
            return false;
        }
        overdue
    }

    /// When it is to be asked, or to have answered.
    pub(crate) fn next_heartbeat(&self, patience: Duration) -> Option<Instant> {
        (self.phase == Phase::Serving).then(|| self.asked_at.unwrap_or(self.heard_at) + patience)
    }

    /// Queues a message. Call [`pump`](Self::pump) after it.
    pub(crate) fn send(&mut self, message: to_worker::Message) {
        if matches!(message, to_worker::Message::Stop(_)) {
            self.phase = Phase::Stopping;
        }
        self.outbox.push_back(Outgoing::Message(Box::new(message), Vec::new()));
    }

    /// Queues a message with a descriptor. Call [`pump`](Self::pump) after it.
    pub(crate) fn send_with(&mut self, message: to_worker::Message, descriptor: OwnedFd) {
        self.outbox.push_back(Outgoing::Message(Box::new(message), vec![descriptor]));
    }

    /// As [`send_with`](Self::send_with), with several.
    pub(crate) fn send_with_all(&mut self, message: to_worker::Message, descriptors: Vec<OwnedFd>) {
        self.outbox.push_back(Outgoing::Message(Box::new(message), descriptors));
    }

    /// Queues orders.
    pub(crate) fn feed(&mut self, feed: Feed) {
        self.outbox.push_back(Outgoing::Feed(feed));
    }

    /// Queues listening sockets, as many messages as they need.
    pub(crate) fn send_sockets(&mut self, sockets: Vec<(ListenerKey, OwnedFd)>) {
        let mut sockets = sockets.into_iter().peekable();
        while sockets.peek().is_some() {
            let (described, descriptors) = sockets
                .by_ref()
                .take(FDS_PER_MESSAGE_MAX)
                .map(|(key, descriptor)| (describe(key), descriptor))
                .unzip();
            let message = to_worker::Message::ListenSockets(ListenSockets { sockets: described });
            self.outbox.push_back(Outgoing::Message(Box::new(message), descriptors));
        }
    }

    /// Sends what the channel takes now. An error means that the worker is lost.
    pub(crate) fn pump(&mut self) -> Result<(), ChannelError> {
        loop {
            while self.channel.queued_bytes() < SEND_AHEAD_BYTES {
                let Some((message, descriptors)) = self.next_message() else { break };
                self.channel.queue_with_fds(&ToWorker { message: Some(message) }, descriptors)?;
            }
            match self.channel.flush()? {
                Flushed::Done if self.outbox.is_empty() => return Ok(()),
                Flushed::Done => {}
                Flushed::Blocked => return Ok(()),
            }
        }
    }

    /// Reads what the worker has sent, its end included if one was told of.
    pub(crate) fn receive(&mut self, ending: bool) -> Result<Received, ChannelError> {
        if ending { self.channel.receive() } else { self.channel.receive_bytes() }
    }

    /// Whether it must be watched for room, from now on: for the first time something waits for it.
    pub(crate) fn needs_room(&mut self) -> bool {
        self.channel.wants_write() && !std::mem::replace(&mut self.watched_for_room, true)
    }

    /// The next message read; an error if it is none that this version knows.
    pub(crate) fn next(&mut self) -> Option<Result<from_worker::Message, String>> {
        let message = self.channel.next()?;
        Some(match message {
            Ok(FromWorker { message: Some(message) }) => Ok(message),
            Ok(FromWorker { message: None }) => Err("it sent an empty message".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    fn next_message(&mut self) -> Option<(to_worker::Message, Vec<OwnedFd>)> {
        loop {
            match self.outbox.front_mut()? {
                Outgoing::Feed(feed) => match feed.next_batch() {
                    Some(batch) => return Some((to_worker::Message::Batch(batch), Vec::new())),
                    None => drop(self.outbox.pop_front()),
                },
                Outgoing::Message(..) => {
                    if let Some(Outgoing::Message(message, descriptors)) = self.outbox.pop_front() {
                        return Some((*message, descriptors));
                    }
                }
            }
        }
    }
}

fn describe(key: ListenerKey) -> ListenSocket {
    ListenSocket { address: key.address.into(), proxy: ListenerType::Http.into(), interface: key.interface }
}
