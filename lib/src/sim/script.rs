//! What an actor still has to do on one connection, in order.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::world::{ConnectionId, World};

pub(super) enum Act {
    Send(Vec<u8>),
    /// Sends it so that it arrives at once, or as much of it as the connection holds.
    SendWhole(Vec<u8>),
    Pause {
        ms: usize,
    },
    /// Waits for `100 Continue`, or a second.
    AwaitContinue,
    /// Ends our direction.
    Finish,
    Close,
    Reset,
    /// Does nothing any more, and reads nothing.
    Vanish,
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Act::SendWhole(bytes) => write!(f, "SendWhole({} bytes)", bytes.len()),
            Act::Pause { ms } => write!(f, "Pause({ms} ms)"),
            Act::AwaitContinue => f.write_str("AwaitContinue"),
            Act::Finish => f.write_str("Finish"),
            Act::Close => f.write_str("Close"),
            Act::Reset => f.write_str("Reset"),
            Act::Vanish => f.write_str("Vanish"),
        }
    }
}

/// How a connection is left, as far as its script goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    No,
    Finished,
    Closed,
    Vanished,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Script {
    acts: VecDeque<Act>,
    /// Of the first act.
    sent: usize,
    until: Option<Instant>,
    pub(super) left: Left,
}

impl Script {
    pub(super) fn new() -> Self {
        Self { acts: VecDeque::new(), sent: 0, until: None, left: Left::No }
    }

    pub(super) fn push(&mut self, act: Act) {
        self.acts.push_back(act);
    }

    /// Sends `bytes`, with a stall at a percentage of them.
    pub(super) fn push_bytes(&mut self, mut bytes: Vec<u8>, stall: Option<(usize, usize)>) {
        if let Some((percent, ms)) = stall {
            let tail = bytes.split_off(bytes.len() * percent / 100);
            self.push(Act::Send(bytes));
            self.push(Act::Pause { ms });
            bytes = tail;
        }
        self.push(Act::Send(bytes));
    }

    /// Sends `bytes` in pieces, with a pause behind each.
    pub(super) fn push_trickle(&mut self, bytes: &[u8], piece: usize, ms: usize) {
        for piece in bytes.chunks(piece) {
            self.push(Act::Send(piece.to_vec()));
            self.push(Act::Pause { ms });
        }
    }

    /// Bytes that are still to be sent.
    pub(super) fn unsent(&self) -> usize {
        let bytes = |act: &Act| match act {
            Act::Send(bytes) | Act::SendWhole(bytes) => bytes.len(),
            _ => 0,
        };
        self.acts.iter().map(bytes).sum::<usize>() - self.sent
    }

    /// What is still to be done, in acts.
    pub(super) fn len(&self) -> usize {
        self.acts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.acts.is_empty()
    }

    /// Nothing more is sent.
    pub(super) fn clear(&mut self) {
        self.acts.clear();
        self.until = None;
        self.sent = 0;
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.until
    }

    /// Goes on by a piece. True if it did anything.
    pub(super) fn step(&mut self, id: ConnectionId, continued: bool, world: &mut World) -> bool {
        let now = world.now;
        let wait = |until: &mut Option<Instant>, for_: Duration| now >= *until.get_or_insert(now + for_);
        match self.acts.front() {
            None => return false,
            Some(Act::Send(bytes)) => {
                let piece = world.pace.draw(&mut world.rng).min(bytes.len() - self.sent);
                match world.send(id, &bytes[self.sent..self.sent + piece]) {
                    // Broken: the reading side finds out.
                    None => {
                        self.clear();
                        return true;
                    }
                    Some(0) if piece > 0 => return false,
                    Some(count) => {
                        self.sent += count;
                        if self.sent < bytes.len() {
                            return true;
                        }
                        self.sent = 0;
                    }
                }
            }
            Some(Act::SendWhole(bytes)) => match world.send_whole(id, bytes) {
                None => {
                    self.clear();
                    return true;
                }
                Some(false) => return false,
                Some(true) => {}
            },
            Some(Act::Pause { ms }) => {
                if !wait(&mut self.until, millis(*ms)) {
                    return false;
                }
            }
            Some(Act::AwaitContinue) => {
                if !continued && !wait(&mut self.until, Duration::from_secs(1)) {
                    return false;
                }
            }
            Some(Act::Finish) => {
                world.finish(id);
                self.left = Left::Finished;
            }
            Some(Act::Close) => {
                world.close(id);
                self.left = Left::Closed;
            }
            Some(Act::Reset) => {
                world.reset(id);
                self.left = Left::Closed;
            }
            Some(Act::Vanish) => {
                world.vanish(id);
                self.left = Left::Vanished;
            }
        }
        self.until = None;
        self.acts.pop_front();
        if matches!(self.left, Left::Closed | Left::Vanished) {
            self.acts.clear();
        }
        true
    }
}

pub(super) fn millis(ms: usize) -> Duration {
    Duration::from_millis(u64::try_from(ms).expect("fits"))
}
