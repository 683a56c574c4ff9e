//! An operator closes what goes to a backend.

use super::{HttpSession, Stage};
use crate::net::{Network, Stream};
use crate::session::backends::BackendKey;
use crate::session::{Drive, Shared};

impl<S: Stream> HttpSession<S> {
    /// The backend that it has a connection to.
    pub fn backend(&self) -> Option<BackendKey> {
        self.back.as_ref().map(|back| back.key)
    }

    /// A tunnel ends now. A request is finished and is the last one of both connections; if it asks for a tunnel, none
    /// follows.
    pub fn close<N: Network<Stream = S>>(&mut self, shared: &mut Shared<N>) -> Drive {
        if self.stage == Stage::Tunnel || self.switches {
            self.finish(shared);
            return Drive::Finished;
        }
        if let Some(exchange) = self.exchange.as_mut() {
            exchange.make_last();
        }
        Drive::Waiting
    }
}
