//! The audit trail: for each request that changes something, who asked, what for, when, and what came of it.
//!
//! Two lines for a change: `accepted`, with its revision, before any worker hears of it, and `finished`. One,
//! `refused`, for what changes nothing. Each line is written at once, by one append: it is in the file before the
//! client hears of it. That is the one file the loop writes itself. What a line repeats of a request names objects:
//! no values, so no secrets; it is shortened, and control characters are escaped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kakehi_command::proto::{Response, ResponseStatus};
use nix::libc::O_NONBLOCK;
use serde::Serialize;

use super::clients::{ClientId, Peer};
use crate::process::logging::Rfc3339;

/// Bits that the files may have; wider ones are narrowed.
const FILE_MODE: u32 = 0o640;

/// Bytes of what was asked for that a line repeats, and of a reason.
const TEXT_BYTES_MAX: usize = 1024;

/// Accounts are looked up in this file alone: asking others could take for ever.
const ACCOUNTS: &str = "/etc/passwd";

/// A request that is being worked on, and has to be accounted for.
#[derive(Debug)]
pub(super) struct Pending {
    /// The request's name.
    pub(super) verb: &'static str,
    /// What it is about.
    pub(super) target: String,
    /// Orders it consists of, once that is known.
    pub(super) orders: Option<usize>,
    /// The revision it made, if it was accepted.
    pub(super) revision: Option<u64>,
    /// It has its first line.
    pub(super) accepted: bool,
    /// When it was taken up.
    pub(super) started: Instant,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(super) struct Audit {
    text: Option<Trail>,
    json: Option<Trail>,
    /// The last account that was looked up: most requests come from one.
    account: Option<(u32, String)>,
}

/// A file that is appended to.
#[derive(Debug)]
struct Trail {
    path: PathBuf,
    file: File,
    /// The last line is not in the file, or only a part of it.
    is_broken: bool,
}

/// A line, under Sōzu's names; `revision` and `orders` are ours.
#[derive(Debug, Serialize)]
struct Line<'a> {
    ts: String,
    verb: &'a str,
    actor_uid: u32,
    actor_gid: u32,
    actor_pid: i32,
    actor_user: String,
    actor_comm: String,
    client_id: usize,
    target: String,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orders: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Audit {
    /// Opens the files that are configured; gives the key of one that cannot be.
    pub(super) fn open(
        text: Option<&Path>,
        json: Option<&Path>,
    ) -> Result<Self, (&'static str, PathBuf, io::Error)> {
        let open = |key, path: Option<&Path>| {
            path.map(|path| Trail::open(path).map_err(|error| (key, path.to_owned(), error))).transpose()
        };
        let (text, json) = (open("audit_logs_target", text)?, open("audit_logs_json_target", json)?);
        Ok(Self { text, json, account: None })
    }

    /// The change is certain: its first line.
    pub(super) fn accepted(&mut self, client: ClientId, peer: &Peer, pending: &Pending) {
        self.write(client, peer, pending, "accepted", None, None);
    }

    /// The request has its answer: its last line.
    pub(super) fn answered(
        &mut self,
        client: ClientId,
        peer: &Peer,
        pending: &Pending,
        response: &Response,
        now: Instant,
    ) {
        let is_ok = response.status() == ResponseStatus::Ok;
        let result = if is_ok || pending.accepted { "finished" } else { "refused" };
        // An answer that says yes and more than that tells of workers that had to be replaced.
        let reason = (!is_ok || response.message.contains("is replaced")).then_some(&*response.message);
        let elapsed = now.saturating_duration_since(pending.started);
        self.write(client, peer, pending, result, Some(elapsed), reason);
    }

    fn write(
        &mut self,
        client: ClientId,
        peer: &Peer,
        pending: &Pending,
        result: &str,
        elapsed: Option<Duration>,
        reason: Option<&str>,
    ) {
        #[expect(clippy::disallowed_methods, reason = "a line carries the time it was written")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            ts: Rfc3339(since_epoch.as_nanos()).to_string(),
            verb: pending.verb,
            actor_uid: peer.uid,
            actor_gid: peer.gid,
            actor_pid: peer.pid,
            actor_user: self.account(peer.uid),
            actor_comm: shown(&peer.comm()),
            client_id: client.0.0,
            target: shown(&pending.target),
            result,
            revision: pending.revision,
            orders: pending.orders,
            elapsed_ms: elapsed.map(|elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
            reason: reason.map(shown),
        };
        let text = line.text();
        if self.text.is_none() && self.json.is_none() {
            log::info!(target: "audit", "{text}");
        }
        if let Some(trail) = &mut self.text {
            trail.append(text);
        }
        if let Some(trail) = &mut self.json {
            // A struct of texts and numbers always has a JSON text.
            trail.append(serde_json::to_string(&line).unwrap_or_default());
        }
    }

    fn account(&mut self, uid: u32) -> String {
        match &self.account {
            Some((known, name)) if *known == uid => name.clone(),
            _ => {
                let name = shown(&account_name(&fs::read_to_string(ACCOUNTS).unwrap_or_default(), uid));
                self.account = Some((uid, name.clone()));
                name
            }
        }
    }
}

impl Line<'_> {
    fn text(&self) -> String {
        let Self { ts, verb, actor_uid, actor_gid, actor_pid, client_id, result, .. } = self;
        let mut text = format!(
            "AUDIT Command(ts={ts}, verb={verb}, actor_uid={actor_uid}, actor_gid={actor_gid}, actor_pid={actor_pid}, \
             actor_user=\"{}\", actor_comm=\"{}\", client_id={client_id}, target=\"{}\", result={result}",
            self.actor_user, self.actor_comm, self.target
        );
        let numbers = [
            ("revision", self.revision),
            ("orders", self.orders.map(|orders| orders as u64)),
            ("elapsed_ms", self.elapsed_ms),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                text.push_str(&format!(", {name}={number}"));
            }
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(", reason=\"{reason}\""));
        }
        text.push(')');
        text
    }
}

impl Trail {
    fn open(path: &Path) -> io::Result<Self> {
        // Not to wait for the reader of a pipe.
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE).custom_flags(O_NONBLOCK);
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & !FILE_MODE != 0 {
            file.set_permissions(fs::Permissions::from_mode(mode & FILE_MODE))?;
        }
        Ok(Self { path: path.to_owned(), file, is_broken: false })
    }

    /// Appends a line; to a new file, if somebody has moved the old one away.
    fn append(&mut self, mut line: String) {
        line.push('\n');
        if self.is_broken {
            line.insert(0, '\n');
        }
        let written = self.follow().and_then(|()| (&self.file).write_all(line.as_bytes()));
        match written {
            Ok(()) => self.is_broken = false,
            Err(error) => {
                log::error!("audit: cannot write {}: {error}; lost: {}", self.path.display(), line.trim());
                self.is_broken = true;
            }
        }
    }

    fn follow(&mut self) -> io::Result<()> {
        let (ours, there) = (self.file.metadata()?, fs::metadata(&self.path));
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            *self = Self::open(&self.path)?;
        }
        Ok(())
    }
}

/// A text of somebody else's: shortened, and with nothing in it that ends a line, a text, or acts on a terminal.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for (index, character) in text.char_indices() {
        if index >= TEXT_BYTES_MAX {
            shown.push_str(&format!("... ({} bytes)", text.len()));
            break;
        }
        match character {
            '\'' => shown.push('\''),
            character => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// The name of an account, passwd(5); empty if it has none.
fn account_name(accounts: &str, uid: u32) -> String {
    let names = accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.take(1).collect()
}

#[cfg(test)]
mod tests {
    use super::super::clients::failure;
    use super::super::mutations::ok;
    use super::super::supervisor::read_clock;
    use super::*;

    fn pending(target: &str) -> Pending {
        let target = target.to_owned();
        Pending {
            verb: "add_cluster",
            target,
            orders: Some(1),
            revision: Some(7),
            accepted: true,
            started: read_clock(),
        }
    }

    fn peer() -> Peer {
        Peer::new(0, 1, 42, "evil\n\"comm")
    }

    #[test]
    fn a_line_says_who_what_and_what_came_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (text, json) = (folder.path().join("a.log"), folder.path().join("a.json"));
        fs::write(&text, "before\n").unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o666)).unwrap();
        let mut audit = Audit::open(Some(&text), Some(&json)).unwrap();
        let client = ClientId(mio::Token(16));
        audit.accepted(client, &peer(), &pending("a\u{1b}[2J\nb"));
        audit.answered(client, &peer(), &pending("a"), &ok("yes", None), read_clock());
        let refused = Pending { accepted: false, revision: None, ..pending("a") };
        audit.answered(client, &peer(), &refused, &failure("no \"way\""), read_clock());
        let lines = fs::read_to_string(&text).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1].contains(
            "verb=add_cluster, actor_uid=0, actor_gid=1, actor_pid=42, actor_user=\"root\", \
             actor_comm=\"evil\\n\\\"comm\", client_id=16, target=\"a\\u{1b}[2J\\nb\", result=accepted, revision=7, orders=1)"
        ));
        assert!(lines[2].contains("result=finished, revision=7"), "{}", lines[2]);
        assert!(
            lines[3].contains("result=refused, orders=1") && lines[3].contains("reason=\"no \\\"way\\\"\"")
        );
        let last = fs::read_to_string(&json).unwrap().lines().last().unwrap().to_owned();
        let last: serde_json::Value = serde_json::from_str(&last).unwrap();
        assert_eq!((&last["result"], &last["actor_pid"]), (&"refused".into(), &42.into()));
        assert_eq!(fs::metadata(&text).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_file_that_was_moved_away_gets_a_successor() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let mut trail = Trail::open(&path).unwrap();
        trail.append("one".to_owned());
        fs::rename(&path, &old).unwrap();
        trail.append("two".to_owned());
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Audit::open(Some(folder.path()), None).is_err());
        let (key, ..) = Audit::open(None, Some(&folder.path().join("no/a.json"))).unwrap_err();
        assert_eq!(key, "audit_logs_json_target");
    }

    #[test]
    fn texts_are_bounded_and_accounts_found() {
        assert!(shown(&"x".repeat(1_000_000)).len() < 2 * TEXT_BYTES_MAX);
        let accounts = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n";
        assert_eq!(account_name(accounts, 1000), "me");
        assert_eq!(account_name(accounts, 1), "");
    }
}
