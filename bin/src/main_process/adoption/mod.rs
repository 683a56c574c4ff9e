//! A main process that was killed (SIGKILL, out of memory) leaves its workers: they serve on as they are, and the next
//! one takes them over.
//!
//! Each worker has a socket in a folder beside the command socket ([`rendezvous`]), where it waits once its channel has
//! hung up. Who comes there gets from it what can't be made anew: the listening sockets of its slot, the memory that
//! workers share, and what the main process before knew beside the state ([`testament`]). The state is that of the
//! worker with the highest revision: whatever was answered with OK, all of them had applied. Others are told the
//! difference. Settings are those of the configuration that this process was started with.
//!
//! Nothing is touched before all of it is here ([`mod@find`]): a main process that can't go on from it goes, and the workers
//! wait on.

mod find;
mod rendezvous;
mod take;
mod testament;

pub(super) use find::{Found, FoundWorker, find};
pub(super) use rendezvous::{Rendezvous, RendezvousError};
pub(super) use take::Refuge;
use testament::Will;
