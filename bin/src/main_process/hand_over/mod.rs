//! `upgrade_main`: the program that is on disk now takes the place of this one, in the same process.
//!
//! The process stays, and with it its id, its children and its descriptors: nothing has to be passed on, only told.
//! What is told goes into a file in memory ([`mod@file`]), which the new program reads ([`take`]). Nothing is given up
//! before that has happened: first the new program is started beside this one, to read a first copy and say whether
//! it could go on from there ([`probe`]); then it is executed; and if it fails even then, it executes the old program
//! again, with the same file, and that one goes on as if nothing had been.
//!
//! Meanwhile the workers serve, and what they say to main waits in their channels. Requests of clients wait, too, from
//! the first step to the last; those that are being worked on are finished before, but for those that may take long,
//! which are handed over.

mod file;
mod leave;
mod probe;
mod take;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::clients::{ClientId, failure};
use super::supervisor::Supervisor;
use super::tasks::{TaskId, Work};
use crate::process::descriptors;
pub(super) use leave::{Named, ms_between};
use probe::Probe;
pub(crate) use probe::examine;
pub(super) use take::{Taking, ago, in_ms};
pub(crate) use take::{is_asked_for, run};

/// Which [`mod@file`] this program writes, and reads.
pub(crate) const PROTOCOL: u32 = 1;

/// Environment: the descriptor of the file.
const FILE_VARIABLE: &str = "KAKEHI_HAND_OVER";

/// Environment: why the program that was to take over could not. This one did write the file.
const REFUSED_VARIABLE: &str = "KAKEHI_HAND_OVER_REFUSED";

/// A hand-over that is under way.
#[derive(Debug)]
pub(super) struct HandingOver {
    task: TaskId,
    /// When it is given up.
    deadline: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The proxy is not up yet: requests are served meanwhile.
    Starting,
    /// What is being worked on is finished first.
    Quieting,
    /// The new program says whether it could go on.
    Probing(Probe),
    /// It could.
    Ready,
}

/// What was written down.
struct Left {
    file: File,
    /// All descriptors that it names.
    descriptors: Vec<RawFd>,
    /// One of them, which nobody else holds.
    _program: Option<File>,
}

impl Supervisor {
    /// Begins to put the program on disk in the place of this one.
    pub(super) fn upgrade_main(&mut self, client: ClientId, verb: &'static str) {
        let refused = if self.stopping.is_some() {
            Some("the proxy is stopping")
        } else if self.handing_over.is_some() {
            Some("an upgrade is under way")
        } else {
            None
        };
        if let Some(text) = refused {
            log::info!("client {client}: {verb} refused: {text}");
            return self.clients.answer(client, &failure(text), self.now);
        }
        let program = self.settings.program.display();
        self.clients.processing(client, format!("Upgrading the main process to {program}..."), self.now);
        log::info!("upgrade of the main process to {program}, asked for by client {client}");
        let task = self.add_task(client, verb, None, Work::HandOver);
        let stage = if self.on_ready.is_some() { Stage::Starting } else { Stage::Quieting };
        self.handing_over = Some(HandingOver { task, deadline: self.hand_over_by(), stage });
    }

    /// When a step of a hand-over that begins now is given up.
    fn hand_over_by(&self) -> Instant {
        self.now + self.patience(self.configuration.state.counts().clusters)
    }

    /// Whether requests wait for a hand-over to end.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handing_over.as_ref().is_some_and(|it| !matches!(it.stage, Stage::Starting))
    }

    /// When the hand-over is given up.
    pub(super) fn hand_over_deadline(&self) -> Option<Instant> {
        self.handing_over.as_ref().map(|it| it.deadline)
    }

    /// Takes the hand-over as far as it goes. If all goes well it does not return.
    pub(super) fn settle_hand_over(&mut self) {
        let Some(mut handing_over) = self.handing_over.take() else { return };
        let task = handing_over.task;
        match self.advance(&mut handing_over) {
            Ok(()) => self.handing_over = Some(handing_over),
            Err(text) => {
                log::error!("the main process is not upgraded: {text}");
                if let Some(task) = self.tasks.take(task) {
                    let text = format!("nothing was upgraded: {text}");
                    self.clients.answer(task.client, &failure(text), self.now);
                }
                // Requests have waited.
                self.clients.wake_all();
            }
        }
    }

    /// An error ends the hand-over.
    fn advance(&mut self, it: &mut HandingOver) -> Result<(), String> {
        if self.stopping.is_some() {
            return Err("the proxy is stopping".to_owned());
        }
        if it.deadline <= self.now {
            return Err(match it.stage {
                Stage::Starting => "the proxy is still starting".to_owned(),
                Stage::Probing(_) => {
                    "the new program did not say in time whether it could take over".to_owned()
                }
                Stage::Quieting | Stage::Ready => "what is being worked on takes too long".to_owned(),
            });
        }
        loop {
            match &mut it.stage {
                Stage::Starting if self.on_ready.is_none() => {
                    it.stage = Stage::Quieting;
                    it.deadline = self.hand_over_by();
                }
                Stage::Quieting if self.is_quiet() => {
                    let left =
                        self.leave().map_err(|error| format!("cannot write down what there is: {error}"))?;
                    let probe = Probe::start(&self.settings.program, &left.file)?;
                    it.stage = Stage::Probing(probe);
                }
                Stage::Probing(probe) => {
                    if !probe.has_agreed()? {
                        return Ok(());
                    }
                    it.stage = Stage::Ready;
                }
                Stage::Ready if self.is_quiet() => return Err(self.execute()),
                Stage::Starting | Stage::Quieting | Stage::Ready => return Ok(()),
            }
        }
    }

    /// Whether nothing is under way but what can be handed over.
    fn is_quiet(&mut self) -> bool {
        let is_handed_over =
            |work: &Work| matches!(work, Work::HandOver | Work::Drained { .. } | Work::Replace(_));
        self.tasks.iter().all(|task| is_handed_over(&task.work)) && self.fleet.is_quiet()
    }

    /// Executes the new program. Returns what is wrong, if it does.
    fn execute(&mut self) -> String {
        let left = match self.leave() {
            Ok(left) => left,
            Err(error) => return format!("cannot write down what there is: {error}"),
        };
        log::info!("{} takes over", self.settings.program.display());
        let program = self.settings.program.clone();
        execute(&program, &left, None)
    }
}

/// Executes a program in the place of this one. Returns what is wrong, if it does.
fn execute(program: &Path, left: &Left, refused: Option<&str>) -> String {
    let file = left.file.as_raw_fd();
    let mut descriptors = left.descriptors.clone();
    descriptors.push(file);
    let executed =
        descriptors::keep_on_exec(&descriptors, true).and_then(|()| replace(program, file, refused));
    let error = executed.err().unwrap_or_else(|| io::Error::other("it returned"));
    // Those that are open stay with this program, and are not for its workers.
    let _closed_on_exec = descriptors::keep_on_exec(&descriptors, false);
    format!("cannot execute {}: {error}", program.display())
}

/// The signal mask stays as it is, so that no signal gets lost or is met by nobody: the standard library's `exec` would
/// empty it.
fn replace(program: &Path, file: RawFd, refused: Option<&str>) -> io::Result<()> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let arguments = std::env::args_os().map(|argument| CString::new(argument.into_vec()));
    let arguments = arguments.collect::<Result<Vec<CString>, _>>()?;
    // The new program gets the environment of this one.
    let inherited = std::env::vars_os().filter(|(name, _)| name != FILE_VARIABLE && name != REFUSED_VARIABLE);
    let mut environment = Vec::new();
    for (name, value) in inherited {
        environment.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    environment.push(CString::new(format!("{FILE_VARIABLE}={file}"))?);
    if let Some(why) = refused {
        environment.push(CString::new(format!("{REFUSED_VARIABLE}={}", why.replace('\0', " ")))?);
    }
    match nix::unistd::execve(&path, &arguments, &environment) {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

/// Where the program of this process is on disk, as it was called: if that is a link, then where it will point to.
pub(super) fn program_path() -> PathBuf {
    let Ok(own) = std::env::current_exe() else { return PathBuf::from("/proc/self/exe") };
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidate = if called.components().count() > 1 {
        std::path::absolute(&called).ok()
    } else {
        // How this program was found when it was called.
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(&called)).find(|path| path.is_file())
    };
    candidate.filter(|path| path.canonicalize().is_ok_and(|resolved| resolved == own)).unwrap_or(own)
}
