//! Who has asked for what, when, and what has become of it: one line for each request that changes something, or was to,
//! when it is answered.
//!
//! A line goes to the log (`kakehi::main_process::audit`, level info), and to the files of `audit_logs_target` and
//! `audit_logs_json_target`. It tells objects by their names and never their contents, so that no secret is in it. What
//! comes from clients, the name of a program say, is told with its control characters escaped: a line stays one.

mod account;
mod sink;
mod subject;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kakehi_command::proto::{Request, Response, ResponseStatus};
use serde::Serialize;

use super::clients::{ClientId, Peer};
use super::supervisor::Supervisor;
use crate::process::logging::{rfc3339, wall_clock};
use account::Accounts;
use sink::Sink;
pub(super) use subject::is_audited;

/// A reason is told as far as this, in bytes: some name thousands of culprits.
const REASON_BYTES_MAX: usize = 1024;

/// A request that is audited, and not answered yet.
#[derive(Debug)]
struct Pending {
    verb: &'static str,
    target: String,
    peer: Peer,
    started: Instant,
    revision: Option<u64>,
}

/// An answer, as far as it is told.
#[derive(Debug)]
pub(super) struct Answered {
    client: ClientId,
    is_ok: bool,
    message: String,
}

impl Answered {
    pub(super) fn new(client: ClientId, response: &Response) -> Self {
        let is_ok = response.status() == ResponseStatus::Ok;
        // What was done is told by the rest of the line.
        let message = if is_ok { String::new() } else { shortened(&response.message) };
        Self { client, is_ok, message }
    }
}

/// Where lines go.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditTargets {
    /// Text.
    pub(super) text: Option<PathBuf>,
    /// One JSON object a line.
    pub(super) json: Option<PathBuf>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Audit {
    pending: BTreeMap<ClientId, Pending>,
    accounts: Accounts,
    text: Option<Sink>,
    json: Option<Sink>,
}

/// What a line has. The names are Sōzu's where it has them.
#[derive(Debug, Serialize)]
struct Line<'a> {
    ts: String,
    verb: &'a str,
    actor_uid: u32,
    actor_gid: u32,
    actor_pid: i32,
    actor_user: &'a str,
    actor_comm: &'a str,
    client_id: usize,
    target: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    version: &'a str,
}

impl Audit {
    /// Opens the files.
    ///
    /// # Errors
    /// Which of them cannot be opened, and why.
    pub(super) fn open(targets: &AuditTargets) -> Result<Self, (PathBuf, std::io::Error)> {
        let open = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| Sink::open(path).map_err(|error| (path.clone(), error))).transpose()
        };
        Ok(Self {
            pending: BTreeMap::new(),
            accounts: Accounts::default(),
            text: open(&targets.text)?,
            json: open(&targets.json)?,
        })
    }

    /// A client has asked for something that is audited.
    fn begin(&mut self, client: ClientId, verb: &'static str, target: String, peer: Peer, now: Instant) {
        self.pending.insert(client, Pending { verb, target, peer, started: now, revision: None });
    }

    /// What it has asked for has become this revision.
    pub(super) fn accepted(&mut self, client: ClientId, revision: u64) {
        if let Some(pending) = self.pending.get_mut(&client) {
            pending.revision = Some(revision);
        }
    }

    /// It has its answer.
    fn end(&mut self, answered: &Answered, now: Instant) {
        let Some(pending) = self.pending.remove(&answered.client) else { return };
        let elapsed = now.saturating_duration_since(pending.started);
        let user = self.accounts.name(pending.peer.uid);
        let line = Line {
            ts: rfc3339(wall_clock()),
            verb: pending.verb,
            actor_uid: pending.peer.uid,
            actor_gid: pending.peer.gid,
            actor_pid: pending.peer.pid,
            actor_user: &user,
            actor_comm: &pending.peer.comm,
            client_id: answered.client.0.0,
            target: &pending.target,
            result: if answered.is_ok { "ok" } else { "failure" },
            reason: &answered.message,
            elapsed_ms: milliseconds(elapsed),
            revision: pending.revision,
            version: env!("CARGO_PKG_VERSION"),
        };
        let text = line.to_string();
        log::info!("{text}");
        if let Some(sink) = &mut self.text {
            sink.write(&text);
        }
        if let Some(sink) = &mut self.json {
            // Strings and numbers: nothing that could not be written.
            let json = serde_json::to_string(&line).unwrap_or_default();
            sink.write(&json);
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "AUDIT Command(ts={}, verb={}, actor_uid={}, actor_gid={}, actor_pid={}, actor_user={}, actor_comm={:?}, \
             client_id={}, target={:?}, result={}",
            self.ts,
            self.verb,
            self.actor_uid,
            self.actor_gid,
            self.actor_pid,
            self.actor_user.escape_debug(),
            self.actor_comm,
            self.client_id,
            self.target,
            self.result
        )?;
        if !self.reason.is_empty() {
            write!(formatter, ", reason={:?}", self.reason)?;
        }
        if let Some(revision) = self.revision {
            write!(formatter, ", revision={revision}")?;
        }
        write!(formatter, ", elapsed_ms={}, version={})", self.elapsed_ms, self.version)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn shortened(text: &str) -> String {
    if text.len() <= REASON_BYTES_MAX {
        return text.to_owned();
    }
    let mut cut = text[..subject::boundary(text, REASON_BYTES_MAX)].to_owned();
    let _never_fails = write!(cut, "... ({} bytes)", text.len());
    cut
}

impl Supervisor {
    /// A request is taken up: if it changes something, what becomes of it will be told.
    pub(super) fn begin_audit(&mut self, client: ClientId, verb: &'static str, request: &Request) {
        if let Some(peer) = self.clients.peer(client) {
            self.audit.begin(client, verb, subject::of(request), peer, self.now);
        }
    }

    /// As [`begin_audit`](Self::begin_audit), for one that the program before has taken up.
    pub(super) fn resume_audit(&mut self, client: ClientId, verb: &'static str, target: String) {
        if let Some(peer) = self.clients.peer(client) {
            self.audit.begin(client, verb, target, peer, self.now);
        }
    }

    /// Tells of what was answered since the last turn.
    pub(super) fn settle_audit(&mut self) {
        for answered in self.clients.take_answered() {
            self.audit.end(&answered, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(comm: &'a str, reason: &'a str) -> Line<'a> {
        Line {
            ts: "2026-01-02T03:04:05.000006Z".to_owned(),
            verb: "add_cluster",
            actor_uid: 1000,
            actor_gid: 100,
            actor_pid: 7,
            actor_user: "ann",
            actor_comm: comm,
            client_id: 16,
            target: "cluster web",
            result: if reason.is_empty() { "ok" } else { "failure" },
            reason,
            elapsed_ms: 3,
            revision: Some(9),
            version: "1.0.0",
        }
    }

    #[test]
    fn a_line_tells_who_what_when_and_what_has_become_of_it() {
        assert_eq!(
            line("kakehi", "").to_string(),
            "AUDIT Command(ts=2026-01-02T03:04:05.000006Z, verb=add_cluster, actor_uid=1000, actor_gid=100, actor_pid=7, \
             actor_user=ann, actor_comm=\"kakehi\", client_id=16, target=\"cluster web\", result=ok, revision=9, \
             elapsed_ms=3, version=1.0.0)"
        );
        let json = serde_json::to_value(line("kakehi", "no")).expect("JSON");
        assert_eq!((&json["result"], &json["reason"]), (&"failure".into(), &"no".into()));
    }

    #[test]
    fn it_stays_one_line_whatever_a_client_is_called() {
        let text = line("a\nAUDIT b\u{1b}[2J", "x\r\ny").to_string();
        assert!(!text.contains(['\n', '\r', '\u{1b}']), "{text}");
        let long = shortened(&"ü".repeat(REASON_BYTES_MAX));
        assert!(long.len() < REASON_BYTES_MAX + 32 && long.ends_with("(2048 bytes)"), "{long}");
    }
}
