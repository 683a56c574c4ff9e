//! The proxy under test: a process with a directory, a config file and a log of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{RunState, WorkerInfo};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::address::free_address;
use crate::binary::kakehi_binary;
use crate::cli::Cli;
use crate::command::CommandClient;
use crate::deadline::{await_value, try_await_value};
use crate::{process, requests};

/// Start-up with thousands of clusters on a loaded machine, in a debug build.
const START_MAX: Duration = Duration::from_secs(60);

/// Seconds that workers serve on whose main process was killed, longer than any test.
const ORPHANS_MAX: u32 = 600;

/// What the proxy is started with.
pub struct ProxyBuilder {
    address: SocketAddr,
    workers: usize,
    settings: String,
    listener_settings: String,
    tables: String,
    listener: bool,
    program: Option<PathBuf>,
}

/// A running proxy. Killed with its workers when dropped; its log is printed if the test fails.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    config: Option<PathBuf>,
    socket: PathBuf,
    program: PathBuf,
    /// Workers of main processes that were killed.
    orphans: Vec<u32>,
}

impl ProxyBuilder {
    /// Number of workers, two unless said.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// A top-level line of the config file.
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// A line for the listener's table.
    pub fn listener_setting(mut self, line: &str) -> Self {
        self.listener_settings.push_str(line);
        self.listener_settings.push('\n');
        self
    }

    /// Leaves the listener out of the config file.
    pub fn without_listener(mut self) -> Self {
        self.listener = false;
        self
    }

    /// Another file to start, for a test that replaces it.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// A cluster with one frontend for all paths of a host.
    pub fn cluster(mut self, id: &str, hostname: &str, backends: &[SocketAddr]) -> Self {
        use std::fmt::Write;
        let listener = self.address;
        let backends: Vec<String> =
            backends.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        write!(
            self.tables,
            "\n[clusters.{id}]\nprotocol = \"http\"\n\
             frontends = [{{ address = \"{listener}\", hostname = \"{hostname}\", path = \"/\" }}]\nbackends = [{}]\n",
            backends.join(", ")
        )
        .expect("writing into a string");
        self
    }

    /// A cluster with settings of its own, and frontends by their keys, the listener's address left out:
    /// `hostname = "a.test", path = "/x"`.
    pub fn cluster_with(
        mut self,
        id: &str,
        settings: &str,
        frontends: &[&str],
        backends: &[SocketAddr],
    ) -> Self {
        use std::fmt::Write;
        writeln!(self.tables, "\n[clusters.{id}]\nprotocol = \"http\"\n{settings}")
            .expect("writing into a string");
        let listener = self.address;
        let frontends: Vec<String> =
            frontends.iter().map(|keys| format!("    {{ address = \"{listener}\", {keys} }},\n")).collect();
        let backends: Vec<String> =
            backends.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        writeln!(self.tables, "frontends = [\n{}]\nbackends = [{}]", frontends.concat(), backends.join(", "))
            .expect("writing into a string");
        self
    }

    /// Any tables, as they stand at the end of the config file.
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self
    }

    /// Where the listener of the config file will listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The config file's text.
    pub fn config_text(&self) -> String {
        let listener = if self.listener {
            format!(
                "[[listeners]]\nprotocol = \"http\"\naddress = \"{}\"\n{}",
                self.address, self.listener_settings
            )
        } else {
            String::new()
        };
        let orphans = "worker_orphan_timeout";
        // A test that is killed itself leaves nobody for ever.
        let orphans = if self.settings.contains(orphans) {
            String::new()
        } else {
            format!("{orphans} = {ORPHANS_MAX}\n")
        };
        format!(
            "command_socket = \"command.sock\"\nworker_count = {}\n{}{orphans}\n{listener}{}",
            self.workers, self.settings, self.tables
        )
    }

    /// Starts the proxy and waits until every worker serves.
    ///
    /// # Panics
    /// If it exits instead, or does not get there in time.
    pub fn start(self) -> Proxy {
        let mut proxy = self.spawn();
        proxy.await_running(self.workers);
        proxy
    }

    /// Starts the process, without waiting for anything.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn spawn(&self) -> Proxy {
        self.spawn_by(Command::new(self.program.as_deref().unwrap_or_else(|| kakehi_binary())))
    }

    /// The same where no process may have more descriptors than this: a hard limit.
    ///
    /// # Panics
    /// If it cannot be started at all, or prlimit(1) of util-linux is missing.
    pub fn spawn_with_fds(&self, limit: usize) -> Proxy {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(kakehi_binary());
        self.spawn_by(command)
    }

    fn spawn_by(&self, mut command: Command) -> Proxy {
        let directory = tempfile::tempdir().expect("a directory for the proxy");
        let config = directory.path().join("config.toml");
        fs::write(&config, self.config_text()).expect("a fresh directory");
        command.arg("start").arg("-c").arg(&config);
        Proxy::spawn(command, directory, Some(config), self.address, "command.sock")
    }
}

impl Proxy {
    /// A proxy with one HTTP listener at an address of its own, and nothing else yet.
    pub fn builder() -> ProxyBuilder {
        ProxyBuilder {
            address: free_address(),
            workers: 2,
            settings: String::new(),
            listener_settings: String::new(),
            tables: String::new(),
            listener: true,
            program: None,
        }
    }

    /// `kakehi start` without a config file, as a new user types it: its runtime directory is a
    /// fresh one.
    pub fn spawn_embedded() -> Proxy {
        let directory = tempfile::tempdir().expect("a directory for the proxy");
        let mut command = Command::new(kakehi_binary());
        command.arg("start").env("XDG_RUNTIME_DIR", directory.path());
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        // Where in the runtime directory the socket appears is the proxy's to choose.
        Self::spawn(command, directory, None, address, "")
    }

    fn spawn(
        mut command: Command,
        directory: TempDir,
        config: Option<PathBuf>,
        address: SocketAddr,
        socket: &str,
    ) -> Proxy {
        let child = spawn_in(directory.path(), &mut command);
        let program = PathBuf::from(command.get_program());
        let socket = directory.path().join(socket);
        Proxy { child, address, directory, config, socket, program, orphans: Vec::new() }
    }

    /// Waits until `workers` workers answer.
    ///
    /// # Panics
    /// If the proxy exits, or does not get there in time.
    pub fn await_running(&mut self, workers: usize) {
        let running = try_await_value(START_MAX, || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("the proxy ended by {status} instead of starting\n{}", self.output());
            }
            if self.config.is_none() {
                self.socket = find_socket(self.directory.path())?;
            }
            let mut client = CommandClient::connect(&self.socket).ok()?;
            client.set_patience(Duration::from_secs(2));
            (running_of(&mut client)?.len() == workers).then_some(())
        });
        assert!(running.is_some(), "the proxy is not up after {START_MAX:?}\n{}", self.output());
    }

    /// Kills the main process, as the kernel does when memory is short. Its workers go on; gives their ids.
    ///
    /// # Panics
    /// If it does not tell its workers before.
    pub fn kill_main(&mut self) -> Vec<u32> {
        let workers = self.worker_pids();
        self.orphans.extend(&workers);
        self.orphans.extend(process::children(self.main_pid()));
        self.signal(Signal::SIGKILL);
        self.await_exit();
        workers
    }

    /// Kills the main process whatever it is at. Whoever calls this waits for its end.
    pub fn kill_main_unasked(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// All processes of this proxy, of main processes that were killed too: they work in its directory.
    pub fn processes(&self) -> Vec<u32> {
        process::working_in(self.directory.path())
    }

    /// Starts a main process by the same configuration after the one before has ended, without waiting for anything.
    /// What it prints is put behind what the one before has printed.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn restart(&mut self) {
        self.child = self.spawn_another();
    }

    /// Another main process by the same configuration.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn spawn_another(&self) -> Child {
        let mut command = Command::new(&self.program);
        command.arg("start").arg("-c").arg(self.config.as_ref().expect("a proxy with a config file"));
        spawn_in(self.directory.path(), &mut command)
    }

    /// The folder in which workers wait for another main process.
    pub fn workers_folder(&self) -> PathBuf {
        let mut path = self.socket.clone().into_os_string();
        path.push(".workers");
        path.into()
    }

    /// The address of the listener in the config file.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The command socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The proxy's directory: config file, command socket, output.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new connection to the command socket.
    ///
    /// # Panics
    /// If nobody serves it.
    pub fn command(&self) -> CommandClient {
        CommandClient::connect(&self.socket).expect("the command socket is served")
    }

    /// The command line, with this proxy's config file.
    pub fn cli(&self) -> Cli {
        Cli::new(self.config.as_deref(), self.directory.path())
    }

    /// Process id of the main process.
    pub fn main_pid(&self) -> u32 {
        self.child.id()
    }

    /// The workers that run, by asking the proxy.
    ///
    /// # Panics
    /// If it does not say.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        running_of(&mut self.command()).expect("status is answered by a list of workers")
    }

    /// Process ids of the workers that run.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.workers().iter().map(|worker| u32::try_from(worker.pid).expect("a pid")).collect()
    }

    /// What the proxy printed so far.
    pub fn output(&self) -> String {
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(self.directory.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        format!("--- standard output\n{}--- standard error\n{}", read("stdout"), read("stderr"))
    }

    /// What the proxy printed on its standard output so far.
    pub fn stdout(&self) -> String {
        let bytes = fs::read(self.directory.path().join("stdout")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal to the main process.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for the main process to end.
    ///
    /// # Panics
    /// If it does not.
    pub fn await_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        match try_await_value(START_MAX, || child.try_wait().expect("our own child")) {
            Some(status) => status,
            None => panic!("the proxy is still running after {START_MAX:?}\n{}", self.output()),
        }
    }

    /// Whether the main process has ended, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// A soft stop over the command socket; then nothing of the proxy may be left.
    ///
    /// # Panics
    /// If it is refused, or a process or the socket stays.
    pub fn stop(mut self) {
        let mut workers = process::children(self.main_pid());
        workers.extend(self.worker_pids());
        self.command().ok(kakehi_command::proto::request::RequestType::SoftStop(Default::default()));
        let status = self.await_exit();
        assert!(status.success(), "after a soft stop the proxy ended by {status}\n{}", self.output());
        self.assert_nothing_left(&workers);
    }

    /// Checks that a proxy that has ended left neither process nor socket behind.
    ///
    /// # Panics
    /// If it did.
    pub fn assert_nothing_left(&self, workers: &[u32]) {
        for pid in workers {
            assert!(!process::is_alive(*pid), "worker {pid} outlived its proxy\n{}", self.output());
        }
        assert!(!self.socket.exists(), "{} was left behind", self.socket.display());
        let folder = self.workers_folder();
        assert!(!folder.exists(), "{} was left behind", folder.display());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
        let mut workers = std::mem::take(&mut self.orphans);
        workers.extend(self.processes().into_iter().filter(|pid| *pid != self.child.id()));
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            workers.extend(process::children(self.child.id()));
            // Already gone is as good as killed.
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
        if !workers.is_empty() {
            // Workers outlive a killed main process: take them along, but nobody who got their pid.
            // Another user than root does not see the executable of a process that cannot be dumped.
            let own = |pid: &u32| match process::executable(*pid) {
                Some(path) => is_binary(&path),
                None => process::is_called(*pid, "kakehi"),
            };
            workers.into_iter().filter(own).for_each(|pid| send_signal(pid, Signal::SIGKILL));
        }
    }
}

fn spawn_in(directory: &Path, command: &mut Command) -> Child {
    let file = |name: &str| {
        let file = fs::File::options().create(true).append(true).open(directory.join(name));
        file.expect("the proxy's own directory")
    };
    let command = command.current_dir(directory).env_remove("RUST_LOG").stdin(Stdio::null());
    let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn();
    child.expect("the binary under test runs")
}

fn find_socket(directory: &Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    let socket = entries.iter().find(|path| path.extension().is_some_and(|extension| extension == "sock"));
    socket.cloned().or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find_socket(path)))
}

fn is_binary(path: &Path) -> bool {
    let same = |a: &Path, b: &Path| a.file_name() == b.file_name();
    same(path, kakehi_binary())
}

fn running_of(client: &mut CommandClient) -> Option<Vec<WorkerInfo>> {
    client.send(requests::status());
    match client.receive_final().ok()?.content?.content_type? {
        ContentType::Workers(mut infos) => {
            infos.vec.retain(|worker| worker.run_state() == RunState::Running);
            Some(infos.vec)
        }
        _ => None,
    }
}

/// Sends a signal to a process by its id.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    // It may just have ended: then there is nobody to signal.
    let _gone = kill(pid, signal);
}

/// Waits until all workers run again, none of them `dead`; gives the new list.
///
/// # Panics
/// If that does not happen in time.
pub fn await_replaced(proxy: &Proxy, dead: u32, workers: usize) -> Vec<WorkerInfo> {
    await_value("the worker is replaced", || {
        let running = running_of(&mut CommandClient::connect(proxy.socket()).ok()?)?;
        let back =
            running.len() == workers && running.iter().all(|worker| u32::try_from(worker.pid) != Ok(dead));
        back.then_some(running)
    })
}
