//! Where logs go: opened here, since a worker can open nothing, and handed to workers.

use std::os::fd::OwnedFd;

use kakehi_command::proto::supervision::to_worker;
use kakehi_command::proto::{Request, ServerConfig};

use super::clients::{ClientId, failure};
use super::supervisor::Supervisor;
use super::tasks::QueryKind;
use super::workers::Worker;
use crate::process::log_target::LogTarget;
use crate::process::logging;

/// For a worker: where its access log goes. None if nobody wants one, or it cannot be had, which is told.
pub(super) fn access_target(server: &ServerConfig) -> Option<(to_worker::Message, Option<OwnedFd>)> {
    try_access_target(server).unwrap_or_else(|error| {
        log::error!("{error}; a worker logs no accesses");
        None
    })
}

fn try_access_target(server: &ServerConfig) -> Result<Option<(to_worker::Message, Option<OwnedFd>)>, String> {
    let text = server.access_logs_target();
    if text.is_empty() || text == "none" {
        return Ok(None);
    }
    let opened = LogTarget::parse(text).and_then(|target| target.open());
    let (wire, fd) = opened.map_err(|error| format!("access_logs_target: {error}"))?.into_wire();
    Ok(Some((to_worker::Message::AccessTarget(wire), fd)))
}

/// Queues it for a worker.
pub(super) fn send_target(worker: &mut Worker, message: to_worker::Message, fd: Option<OwnedFd>) {
    match fd {
        Some(fd) => worker.send_with(message, fd),
        None => worker.send(message),
    }
}

impl Supervisor {
    /// Opens all targets anew. Those that cannot be opened stay as they were.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub(super) fn reopen_logs(&mut self) -> Result<(), String> {
        let server = &self.settings.server;
        let target = LogTarget::parse(&server.log_target)?;
        let failed = |error| format!("log_target: {error}");
        logging::set_sink(target.open().map_err(failed)?.into_sink());
        for worker in self.fleet.workers_mut() {
            let (wire, fd) = target.open().map_err(failed)?.into_wire();
            send_target(worker, to_worker::Message::LogTarget(wire), fd);
            if let Some((message, fd)) = try_access_target(server)? {
                send_target(worker, message, fd);
            }
        }
        log::info!("the logs are reopened");
        Ok(())
    }

    /// The same, for a client, who is answered once all workers have heard of it.
    pub(super) fn reopen_logs_for(&mut self, client: ClientId, verb: &'static str, request: &Request) {
        match self.reopen_logs() {
            Ok(()) => {
                let timeout = self.settings.worker_timeout;
                self.fan_out(client, verb, timeout, QueryKind::Reopened, request);
            }
            Err(error) => self.clients.answer(client, &failure(error), self.now),
        }
    }
}
