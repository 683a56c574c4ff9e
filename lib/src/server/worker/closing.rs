//! `close_sessions`: an operator ends what goes to a cluster, or to some of its backends.

use kakehi_command::order::SessionsOf;
use kakehi_command::proto::ClosedSessions;

use super::Worker;
use crate::net::Network;
use crate::session::Drive;

impl<N: Network> Worker<N> {
    /// Closes TCP connections, tunnels and idle connections to these backends; requests in flight finish, as the last
    /// ones of their connections. Backends that are configured take new ones as before.
    pub fn close_sessions(&mut self, sessions: &SessionsOf) -> ClosedSessions {
        let backends = self.shared.backends.meant_by(sessions);
        let mut counts = ClosedSessions::default();
        for peer in self.shared.backends.take_all_idle(&backends) {
            self.shared.release_token(peer.token());
            counts.closed += 1;
        }
        for index in self.sessions.indexes() {
            if !self.sessions.backend_of(index).is_some_and(|backend| backends.contains(&backend)) {
                continue;
            }
            self.dispatch(index, |session, shared| {
                let drive = session.close(shared);
                match drive {
                    Drive::Finished => counts.closed += 1,
                    _ => counts.draining += 1,
                }
                drive
            });
        }
        counts
    }
}
