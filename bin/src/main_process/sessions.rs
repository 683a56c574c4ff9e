//! The memory in which workers keep the TLS sessions of listeners with early data.
//!
//! Made here once and handed to each worker, so that a session is resumed by any of them, once, and outlives the worker
//! that it began with. Main itself never looks into it.

use std::io;
use std::os::fd::OwnedFd;

use kakehi_command::proto::hand_over::Memory;
use kakehi_command::proto::supervision::{SessionTable as Wire, to_worker};
use kakehi_lib::net::shared_memory;
use kakehi_lib::tls::session_table::SessionTable;

use super::hand_over::{Named, Taking};

/// See the module.
#[derive(Debug)]
pub(super) struct SessionMemory {
    fd: OwnedFd,
    bytes: usize,
}

impl SessionMemory {
    /// For so many sessions. It takes no room before it is used.
    pub(super) fn create(sessions: usize) -> io::Result<Self> {
        let bytes = SessionTable::bytes_for(sessions);
        Ok(Self { fd: shared_memory::create(bytes)?, bytes })
    }

    /// The memory that the program has left which this process ran before.
    pub(super) fn taken_over(left: &Memory, taking: Taking) -> io::Result<Self> {
        let bytes = usize::try_from(left.bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Self { fd: taking.own(left.fd)?, bytes })
    }

    /// The memory of a main process that was killed, from one of its workers.
    pub(super) fn adopted(fd: OwnedFd, left: &Memory) -> Option<Self> {
        Some(Self { fd, bytes: usize::try_from(left.bytes).ok()? })
    }

    /// For the next program of this process.
    pub(super) fn left(&self, named: &mut Named) -> Memory {
        Memory { fd: named.name(&self.fd), bytes: self.bytes as u64 }
    }

    /// For a worker.
    pub(super) fn message(&self) -> io::Result<(to_worker::Message, OwnedFd)> {
        let wire = Wire { bytes: self.bytes as u64 };
        Ok((to_worker::Message::SessionTable(wire), self.fd.try_clone()?))
    }
}
