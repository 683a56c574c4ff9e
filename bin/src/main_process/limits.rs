//! The memory in which workers count what is limited over all of them.
//!
//! Made here once. Each process that counts has a lane of it; main gives it one, and clears it once the kernel says
//! that the process is gone, connections and all: from then on nothing of it counts. A lane that may still be written
//! to is never cleared or given to another.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use kakehi_command::proto::hand_over::Limits;
use kakehi_command::proto::supervision::{LimitTables as Wire, to_worker};
use kakehi_lib::limits::key::SECRET_BYTES;
use kakehi_lib::limits::{Layout, SharedTables};
use kakehi_lib::net::shared_memory;

use super::gather::WorkerId;
use super::hand_over::{Named, Taking};
use super::workers::RETIRING_PER_SLOT_MAX;

/// Lanes of a worker slot: for the worker that serves, its successor, and those that retire.
const LANES_PER_SLOT: usize = 2 + RETIRING_PER_SLOT_MAX;

/// Lanes beyond: a worker that was lost has its own until it is reaped.
const SPARE_LANES: usize = 2;

/// The least number of entries, however few connections there may be.
const ENTRIES_MIN: usize = 1024;

/// See the module.
pub(super) struct LimitMemory {
    fd: OwnedFd,
    words: &'static [AtomicU64],
    layout: Layout,
    secret: [u8; SECRET_BYTES],
    lanes: Vec<Option<WorkerId>>,
}

impl LimitMemory {
    /// For so many workers of so many connections; `entries` of 0 makes as many as those need.
    pub(super) fn create(entries: usize, workers: usize, connections: usize) -> io::Result<Self> {
        let entries = match entries {
            0 => connections.saturating_mul(workers).saturating_mul(2).max(ENTRIES_MIN),
            entries => entries,
        };
        let layout = Layout { entries, lanes: workers * LANES_PER_SLOT + SPARE_LANES };
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("the kernel gives no randomness"))?;
        let fd = shared_memory::create(layout.bytes())?;
        let words = shared_memory::map(&fd, layout.bytes())?;
        Ok(Self { fd, words, layout, secret, lanes: vec![None; layout.lanes] })
    }

    /// The memory that the program has left which this process ran before.
    pub(super) fn taken_over(left: &Limits, taking: Taking) -> io::Result<Self> {
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidData);
        let entries = usize::try_from(left.entries).map_err(wrong)?;
        let layout = Layout { entries, lanes: left.lanes as usize };
        let secret = left.secret.as_slice().try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let fd = taking.own(left.fd)?;
        let words = shared_memory::map(&fd, layout.bytes())?;
        let lanes = (0..left.lanes).map(|lane| left.worker_of_lane.get(&lane).copied().map(WorkerId));
        Ok(Self { fd, words, layout, secret, lanes: lanes.collect() })
    }

    /// The memory of a main process that was killed, from one of its workers. `lanes` are all that are in use: the
    /// processes of others are gone.
    pub(super) fn adopted(
        fd: OwnedFd,
        left: &Limits,
        lanes: impl Iterator<Item = (u32, WorkerId)>,
    ) -> io::Result<Self> {
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidData);
        let layout =
            Layout { entries: usize::try_from(left.entries).map_err(wrong)?, lanes: left.lanes as usize };
        let secret: [u8; SECRET_BYTES] =
            left.secret.as_slice().try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        // It comes from a worker: a mapping beyond its end would be the end of this process.
        let file = File::from(fd);
        if file.metadata()?.len() != layout.bytes() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let fd = OwnedFd::from(file);
        let words = shared_memory::map(&fd, layout.bytes())?;
        let mut owners = vec![None; layout.lanes];
        for (lane, worker) in lanes {
            *owners.get_mut(lane as usize).ok_or(io::ErrorKind::InvalidData)? = Some(worker);
        }
        let free = (0..layout.lanes).filter(|lane| owners[*lane].is_none());
        free.filter_map(|lane| SharedTables::new(words, layout, lane, &secret))
            .for_each(|tables| tables.clear_lane());
        Ok(Self { fd, words, layout, secret, lanes: owners })
    }

    /// For the next program of this process.
    pub(super) fn left(&self, named: &mut Named) -> Limits {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let lanes = self.lanes.iter().enumerate();
        let taken = lanes.filter_map(|(lane, worker)| Some((number(lane), (*worker)?.0)));
        Limits {
            fd: named.name(&self.fd),
            entries: self.layout.entries as u64,
            lanes: number(self.layout.lanes),
            secret: self.secret.to_vec(),
            worker_of_lane: taken.collect(),
        }
    }

    /// A lane for a worker.
    pub(super) fn message(&mut self, worker: WorkerId) -> io::Result<(to_worker::Message, OwnedFd)> {
        let free = self.lanes.iter().position(Option::is_none);
        let lane = free.ok_or_else(|| io::Error::other("too many processes that should be gone are not"))?;
        let fd = self.fd.try_clone()?;
        self.lanes[lane] = Some(worker);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let wire = Wire {
            entries: self.layout.entries as u64,
            lanes: number(self.layout.lanes),
            lane: number(lane),
            secret: self.secret.to_vec(),
        };
        Ok((to_worker::Message::LimitTables(wire), fd))
    }

    /// The worker's process is gone.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        let Some(lane) = self.lanes.iter().position(|owner| *owner == Some(worker)) else { return };
        if let Some(tables) = SharedTables::new(self.words, self.layout, lane, &self.secret) {
            tables.clear_lane();
            self.lanes[lane] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use kakehi_lib::limits::{Added, Scope};

    use super::*;

    fn tables(memory: &mut LimitMemory, worker: u32) -> SharedTables {
        let (message, fd) = memory.message(WorkerId(worker)).expect("a lane");
        let to_worker::Message::LimitTables(wire) = message else { panic!("{message:?}") };
        let layout =
            Layout { entries: wire.entries.try_into().expect("it fits"), lanes: wire.lanes as usize };
        let words = shared_memory::map(&fd, layout.bytes()).expect("mapped");
        let secret = wire.secret.as_slice().try_into().expect("16 bytes");
        SharedTables::new(words, layout, wire.lane as usize, secret).expect("it fits")
    }

    #[test]
    fn who_is_gone_counts_no_more_and_leaves_its_lane() {
        let mut memory = LimitMemory::create(0, 1, 10).expect("memory");
        let [first, second] = [0, 1].map(|worker| tables(&mut memory, worker));
        let key = first.key(Scope::Listener, &[b"x"]);
        assert_eq!(key, second.key(Scope::Listener, &[b"x"]));
        let _kept = first.counters().add(key).expect("counted");
        let _lost = second.counters().add(key).expect("counted");
        assert_eq!(first.counters().try_add(key, 2), Added::OverLimit);
        memory.ended(WorkerId(1));
        assert_eq!(first.counters().count(key), 1);
        for worker in 2..7 {
            assert_eq!(tables(&mut memory, worker).counters().count(key), 1);
        }
        assert!(memory.message(WorkerId(7)).is_err(), "six lanes, and six that are not gone");
        memory.ended(WorkerId(3));
        assert!(memory.message(WorkerId(7)).is_ok());
    }
}
