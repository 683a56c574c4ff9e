//! The turn of those that wait until a cluster has room; see [`waiting`](crate::session::waiting).

use super::Worker;
use crate::net::Network;
use crate::session::backends::ClusterKey;

/// Sessions of one line that may have their turn in one of the loop.
const SERVED_PER_TURN_MAX: usize = 64;

/// Lines whose clusters may have room that are looked at in one turn.
const LINES_PER_TURN_MAX: usize = 256;

impl<N: Network> Worker<N> {
    /// Lets those get on for whom there is room. True if there is still more to do.
    pub(super) fn serve_lines(&mut self) -> bool {
        if self.shared.waiting.is_due(self.shared.now) {
            let clusters = self.shared.waiting.lend_clusters();
            for &cluster in &clusters {
                self.serve_line(cluster);
            }
            self.shared.waiting.give_back(clusters);
        }
        for _ in 0..LINES_PER_TURN_MAX {
            let Some(cluster) = self.shared.backends.take_freed() else { return false };
            // Somebody else's turn, who will look in a moment.
            if !self.shared.leaves_room(cluster) {
                self.serve_line(cluster);
            }
        }
        true
    }

    fn serve_line(&mut self, cluster: ClusterKey) {
        for _ in 0..SERVED_PER_TURN_MAX {
            let Some(first) = self.shared.waiting.first(cluster) else { return };
            self.dispatch(first.0, |session, shared| session.drive(shared));
            if self.shared.waiting.first(cluster) == Some(first) {
                return;
            }
        }
        // As many again in the next turn.
        self.shared.backends.look_again(cluster);
    }
}
