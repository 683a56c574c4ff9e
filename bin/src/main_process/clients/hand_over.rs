//! The clients of the command socket, for the next program of this process: they notice nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use kakehi_command::channel::Channel;
use kakehi_command::proto::hand_over as wire;
use mio::Interest;
use mio::unix::SourceFd;

use super::super::hand_over::{Named, Taking};
use super::super::supervisor::TOKEN_STEP;
use super::{Client, ClientId, Clients, Peer};

impl Clients {
    /// Connections at the same time.
    pub(in super::super) fn max(&self) -> usize {
        self.limits.clients_max
    }

    /// Gives all of them a turn.
    pub(in super::super) fn wake_all(&mut self) {
        self.ready.extend(self.clients.keys());
    }

    /// For the next program of this process, without what they wait for.
    pub(in super::super) fn left(&self, named: &mut Named) -> Vec<(ClientId, wire::Client)> {
        let mut left = Vec::new();
        for (id, client) in &self.clients {
            let told = wire::Client {
                fd: named.name_raw(client.channel.as_raw_fd()),
                uid: client.peer.uid,
                gid: client.peer.gid,
                comm: client.peer.comm.to_string(),
                pid: client.peer.pid,
                subscribed: client.subscribed,
                finished: client.finished,
                unread: client.channel.unread().to_vec(),
                unsent: client.channel.unsent().to_vec(),
                task: None,
            };
            left.push((*id, told));
        }
        left
    }

    /// One that the program has left which this process ran before.
    pub(in super::super) fn take_over(
        &mut self,
        left: &wire::Client,
        taking: Taking,
    ) -> io::Result<ClientId> {
        let stream = UnixStream::from(taking.own(left.fd)?);
        let max = self.limits.frame_bytes_max;
        let channel = Channel::resume(stream, max, &left.unread, &left.unsent);
        let channel = channel.map_err(|error| io::Error::other(error.to_string()))?;
        let id = ClientId(self.next_token);
        self.next_token.0 += TOKEN_STEP;
        // What waits for it is sent at the first event: that there is room is one.
        let unsent = !left.unsent.is_empty();
        let interest = if unsent { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.registry.register(&mut SourceFd(&channel.as_raw_fd()), id.0, interest)?;
        let client = Client {
            channel,
            peer: Peer { uid: left.uid, gid: left.gid, comm: left.comm.as_str().into(), pid: left.pid },
            busy: left.task.is_some(),
            subscribed: left.subscribed,
            finished: left.finished,
            exhausted: false,
            readable: true,
            ending: true,
            watched_for_room: unsent,
            held_back_since: None,
            stalled_since: unsent.then(super::super::supervisor::read_clock),
        };
        self.clients.insert(id, client);
        self.ready.push_back(id);
        Ok(id)
    }
}
