//! Everything that may block, on a thread of its own: state files, configuration files, the names in
//! them. The loop hands over a job with a copy of the state (values are shared, so a copy is cheap) and
//! is woken when it is done.
//!
//! Jobs are done one at a time, in order. The thread works out what a file would change, but changes
//! nothing itself: see [`Prepared`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use kakehi_command::config::{self, UnixSockets};
use kakehi_command::order::{ClusterId, Order};
use kakehi_command::proto::supervision::ProbeSecret;
use kakehi_command::state::{ConfigState, STATE_RECORD_BYTES_MIN, read_state, write_state};
use mio::Waker;

use super::soundness::Soundness;
use super::start::vet_all_keys;
use super::tasks::TaskId;
use super::vetting::vet_keys;

/// A state file holds what controllers told the proxy in confidence: its owner alone may read it.
const STATE_FILE_MODE: u32 = 0o600;

/// Refused records that are named in the log; the rest are counted.
const REFUSALS_LOGGED_MAX: usize = 20;

/// Something to be done with files.
#[derive(Debug)]
pub(super) enum Job {
    /// Write the state to a file.
    Save {
        /// The file.
        path: PathBuf,
        /// What to write.
        state: ConfigState,
    },
    /// Read a state file and see what of it the state accepts.
    Load {
        /// The file.
        path: PathBuf,
        /// The state it is to be added to.
        base: Snapshot,
        /// Longest record, bytes.
        record_bytes_max: usize,
    },
    /// Read a configuration and see what makes the state equal to it.
    Reload {
        /// Where the configuration is.
        source: Source,
        /// The state that is to become equal to it.
        base: Snapshot,
    },
}

/// A state and its revision.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The state.
    pub(super) state: ConfigState,
    /// Its revision.
    pub(super) revision: u64,
    /// The Unix sockets that workers may connect to.
    pub(super) unix_sockets: UnixSockets,
    /// Bytes of a worker's buffers.
    pub(super) buffer_bytes: usize,
}

/// Where a configuration to be reloaded is.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In a file.
    File(PathBuf),
    /// In memory: what the proxy was started with, if that was no file.
    Orders(Arc<[Order]>),
}

/// What a job has found.
#[derive(Debug)]
pub(super) enum Finding {
    /// The state was written: this many records.
    Saved(usize),
    /// A state file was read.
    Loaded(Prepared),
    /// A configuration was read.
    Reloaded(Prepared),
}

/// A change that was worked out for the state at `base`.
///
/// If the state is still there, `state` takes its place at once, however large the change; if it has
/// moved on, the loop works the change out again.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The revision it was worked out for.
    pub(super) base: u64,
    /// The state after the change. For a reload it is the target, whatever the base.
    pub(super) state: ConfigState,
    /// What leads from the base to it.
    pub(super) orders: Vec<Order>,
    /// Records that were refused, and are left out.
    pub(super) refused: usize,
    /// What the file's author should know.
    pub(super) notes: Vec<String>,
    /// Values of secret headers of health checks.
    pub(super) probe_secrets: Vec<(ClusterId, ProbeSecret)>,
}

/// The end of a job.
#[derive(Debug)]
pub(super) struct Finished {
    /// The task it was done for.
    pub(super) task: TaskId,
    /// What it has found, or the text of what failed.
    pub(super) result: Result<Finding, String>,
}

/// The thread, as the loop sees it.
#[derive(Debug)]
pub(super) struct FileThread {
    jobs: Sender<(TaskId, Job)>,
    finished: Receiver<Finished>,
}

impl FileThread {
    /// Starts the thread; `waker` wakes the loop whenever a job is done. The thread ends with this value.
    pub(super) fn start(waker: Waker) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<(TaskId, Job)>();
        let (done, finished) = mpsc::channel();
        thread::Builder::new().name("files".to_owned()).spawn(move || {
            while let Ok((task, job)) = todo.recv() {
                let result = perform(job);
                if done.send(Finished { task, result }).is_err() {
                    return;
                }
                if let Err(error) = waker.wake() {
                    log::error!("cannot wake the main loop: {error}");
                }
            }
        })?;
        Ok(Self { jobs, finished })
    }

    /// Hands over a job. False if the thread is gone, which only a bug can cause.
    pub(super) fn submit(&self, task: TaskId, job: Job) -> bool {
        self.jobs.send((task, job)).is_ok()
    }

    /// A job that was done, if any.
    pub(super) fn next_finished(&self) -> Option<Finished> {
        self.finished.try_recv().ok()
    }
}

fn perform(job: Job) -> Result<Finding, String> {
    match job {
        Job::Save { path, state } => save(&path, &state)
            .map(Finding::Saved)
            .map_err(|error| format!("cannot save the state to {}: {error}", path.display())),
        Job::Load { path, base, record_bytes_max } => {
            load(&path, base, record_bytes_max).map(Finding::Loaded)
        }
        Job::Reload { source, base } => reload(&source, &base).map(Finding::Reloaded),
    }
}

/// Writes beside the target and renames: at any time the file is the old state or the new one, whole.
fn save(path: &Path, state: &ConfigState) -> io::Result<usize> {
    // What a link points to is what is meant; renaming would replace the link.
    let linked = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let target = if linked { fs::canonicalize(path)? } else { path.to_owned() };
    let path = target.as_path();
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) && path.file_name().is_some() {
        return Err(not_regular());
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut beside_name = std::ffi::OsString::from(".");
    beside_name.push(name);
    beside_name.push(format!(".{}", std::process::id()));
    let beside = folder.join(beside_name);
    let written = write_beside(&beside, state).and_then(|records| {
        fs::rename(&beside, path)?;
        // The rename itself lasts only once the folder is written.
        File::open(folder)?.sync_all()?;
        Ok(records)
    });
    if written.is_err() {
        // What was written is of no use to anyone; the error that matters is the first.
        let _unremovable = fs::remove_file(&beside);
    }
    written
}

fn write_beside(beside: &Path, state: &ConfigState) -> io::Result<usize> {
    // Left behind by a process of the same id that was killed while saving, if it exists.
    let _stale = fs::remove_file(beside);
    let file = OpenOptions::new().write(true).create_new(true).mode(STATE_FILE_MODE).open(beside)?;
    let mut out = BufWriter::new(file);
    let records = write_state(state, &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(records)
}

/// Reads a state file and applies what fits to a copy of the state. What does not fit (it is there
/// already, or is not served by this version) is left out and counted; a file that cannot be read to
/// its end changes nothing.
pub(super) fn load(path: &Path, base: Snapshot, record_bytes_max: usize) -> Result<Prepared, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot load {}: {error}", path.display());
    refuse_irregular(path).map_err(|error| failed(&error))?;
    let file = File::open(path).map_err(|error| failed(&error))?;
    let records = read_state(BufReader::new(file), record_bytes_max.max(STATE_RECORD_BYTES_MIN));
    let Snapshot { mut state, revision, unix_sockets, buffer_bytes } = base;
    let soundness = Soundness::new(buffer_bytes);
    let (mut orders, mut refused) = (Vec::new(), 0);
    for (index, record) in records.enumerate() {
        let request = record.map_err(|error| failed(&error))?;
        let accepted = Order::from_request(&request).map_err(|error| error.to_string()).and_then(|order| {
            unix_sockets.allow(&order)?;
            vet_keys(&order)?;
            let change = state.apply(&order).map_err(|error| error.to_string())?;
            soundness.check_or_undo(&mut state, vec![change]).map(|_| order)
        });
        match accepted {
            Ok(order) => orders.push(order),
            Err(error) => {
                refused += 1;
                if refused <= REFUSALS_LOGGED_MAX {
                    log::warn!("{}: record {index} is left out: {error}", path.display());
                }
            }
        }
    }
    Ok(Prepared { base: revision, state, orders, refused, notes: Vec::new(), probe_secrets: Vec::new() })
}

fn reload(source: &Source, base: &Snapshot) -> Result<Prepared, String> {
    let (mut notes, mut probe_secrets) = (Vec::new(), Vec::new());
    let orders = match source {
        Source::File(path) => {
            refuse_irregular(path).map_err(|error| format!("cannot load {}: {error}", path.display()))?;
            let config = config::load(path).map_err(|errors| errors.to_string())?;
            notes.extend(config.warnings.iter().map(ToString::to_string));
            let unfit = vet_all_keys(&config);
            if !unfit.is_empty() {
                return Err(unfit.join("\n"));
            }
            probe_secrets = config.probe_secrets;
            config.orders.into()
        }
        Source::Orders(orders) => {
            orders.iter().try_for_each(vet_keys)?;
            Arc::clone(orders)
        }
    };
    orders.iter().try_for_each(|order| base.unix_sockets.allow(order))?;
    let mut target = ConfigState::default();
    let changes = target.transact(&orders).map_err(|error| error.to_string())?;
    Soundness::new(base.buffer_bytes).check_or_undo(&mut target, changes)?;
    let orders = base.state.diff(&target);
    Ok(Prepared { base: base.revision, state: target, orders, refused: 0, notes, probe_secrets })
}

/// Reading a pipe could block this thread, and all who wait for it, for ever.
fn refuse_irregular(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file, and is left alone")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kakehi_command::proto::request::RequestType;
    use kakehi_command::proto::{Cluster, Request};

    use super::*;

    fn add(cluster_id: &str) -> Order {
        let cluster = Cluster { cluster_id: cluster_id.to_owned(), ..Default::default() };
        Order::from_request(&Request { request_type: Some(RequestType::AddCluster(cluster)) }).unwrap()
    }

    fn state(clusters: &[&str]) -> ConfigState {
        let mut state = ConfigState::default();
        for cluster in clusters {
            state.apply(&add(cluster)).unwrap();
        }
        state
    }

    fn at(revision: u64, clusters: &[&str]) -> Snapshot {
        Snapshot { state: state(clusters), revision, unix_sockets: UnixSockets::Any, buffer_bytes: 16_393 }
    }

    #[test]
    fn a_saved_state_loads_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(save(&path, &state(&["a", "b"])).unwrap(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, STATE_FILE_MODE);
        let prepared = load(&path, at(3, &[]), 1024).unwrap();
        assert_eq!((prepared.base, prepared.orders.len(), prepared.refused), (3, 2, 0));
        assert_eq!(prepared.state, state(&["a", "b"]));
    }

    #[test]
    fn saving_replaces_a_file_whole_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        save(&path, &state(&["a", "b", "c"])).unwrap();
        save(&path, &state(&["d"])).unwrap();
        assert_eq!(load(&path, at(0, &[]), 1024).unwrap().state, state(&["d"]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn saving_where_no_file_can_be_says_so() {
        let error = perform(Job::Save { path: "/".into(), state: state(&[]) }).unwrap_err();
        assert!(error.contains("names no file"), "{error}");
        let error = perform(Job::Save { path: "/nowhere/at/all".into(), state: state(&[]) }).unwrap_err();
        assert!(error.starts_with("cannot save the state to /nowhere/at/all: "), "{error}");
    }

    #[test]
    fn saving_follows_links_and_spares_what_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("state.json"), folder.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        fs::write(&target, "old").unwrap();
        save(&link, &state(&["a"])).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(load(&target, at(0, &[]), 1024).unwrap().state, state(&["a"]));
        let socket = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(save(&socket, &state(&["a"])).unwrap_err().to_string().contains("regular"));
        assert!(load(&socket, at(0, &[]), 1024).unwrap_err().contains("regular"));
    }

    #[test]
    fn a_broken_state_file_gives_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        save(&path, &state(&["a"])).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"id\":");
        fs::write(&path, bytes).unwrap();
        let error = load(&path, at(0, &[]), 1024).unwrap_err();
        assert!(error.contains("record 1"), "{error}");
    }

    #[test]
    fn a_reload_is_the_difference_removals_included() {
        let source = Source::Orders(vec![add("a"), add("new")].into());
        let prepared = reload(&source, &at(4, &["a", "old"])).unwrap();
        assert_eq!(prepared.base, 4);
        assert_eq!(prepared.state, state(&["a", "new"]));
        assert_eq!(prepared.orders.len(), 2, "{:?}", prepared.orders);
    }

    #[test]
    fn a_reload_without_a_difference_changes_nothing() {
        let source = Source::Orders(vec![add("a")].into());
        assert_eq!(reload(&source, &at(4, &["a"])).unwrap().orders, []);
    }
}
