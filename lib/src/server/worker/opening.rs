//! Connections that begin with a PROXY header: what comes before their session, and how it begins.

use std::net::SocketAddr;

use kakehi_command::order::ListenerKind;

use super::Worker;
use super::accept::BARE_ALERT;
use super::entry::Admission;
use crate::listener::ListenerIndex;
use crate::metrics::Metric;
use crate::net::{Network, Peer};
use crate::session::Owner;
use crate::session::opening::OpeningSession;
use crate::session::table::{Resting, Session, Turned};
use crate::session::tcp::TcpSession;

impl<N: Network> Worker<N> {
    /// A connection was accepted that has to say first whom it is from.
    pub(super) fn open(
        &mut self,
        listener: ListenerIndex,
        stream: N::Stream,
        address: SocketAddr,
        admission: Admission,
    ) {
        let index = self.sessions.next_index();
        self.entries.keep(index, admission);
        let token = self.shared.owners.insert(Owner::Front(index));
        let front = Peer::accepted(stream, token);
        let session = OpeningSession::accepted(front, address, listener, &mut self.shared);
        self.sessions.insert_opening(session);
        self.shared.listeners.session_opened(listener);
        self.shared.metrics.set(Metric::ClientConnections, self.sessions.len());
        self.dispatch(index, |session, shared| session.drive(shared));
    }

    /// It has said so: from here on it is served as one that comes from there.
    pub(super) fn introduced(&mut self, index: usize) {
        let Some(Session::Opening(session)) = self.sessions.awake_mut(index) else { return };
        let (listener, address) = (session.listener(), session.address());
        match self.enter_from(listener, address.ip(), Admission::default()) {
            Ok(admission) => self.entries.keep(index, admission),
            Err(()) => {
                let words = self.words_beyond(listener);
                return self.refuse_opened(index, words.as_deref().unwrap_or_default());
            }
        }
        let tls = match self.begin_tls(listener, address.ip()) {
            Ok(tls) => tls,
            Err(reason) => {
                self.shared.metrics.incr(reason);
                return self.refuse_opened(index, BARE_ALERT);
            }
        };
        let kind = self.shared.listeners.get(listener).map(|entry| entry.kind());
        let shared = &mut self.shared;
        self.sessions.turn_opened(index, |session| {
            let (front, address, told) = session.introduce(shared);
            let front = match tls {
                Some(tls) => front.secured(tls),
                None => front,
            };
            match kind {
                Some(ListenerKind::Tcp) => {
                    let session = TcpSession::accepted(index, front, address, listener, shared.now, told);
                    Turned::Tcp(Box::new(session))
                }
                _ => {
                    let peer = told.map(|told| told.peer);
                    Turned::Http(Resting::accepted(front, address, listener, shared.now).behind(peer))
                }
            }
        });
        self.dispatch(index, |session, shared| session.drive(shared));
    }

    fn refuse_opened(&mut self, index: usize, words: &[u8]) {
        if let Some(Session::Opening(session)) = self.sessions.awake_mut(index) {
            session.refuse(words);
            session.finish(&mut self.shared);
        }
        self.forget(index);
    }
}
