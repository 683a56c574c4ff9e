//! What a worker does before it hands over to the library.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use kakehi_command::config::UnixSockets;
use kakehi_lib::server::{self, ErrorLog, WorkerArguments};
use kakehi_lib::tls::client_config::SystemAuthorities;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::dup2_stdin;

use crate::process::log_target::LogTarget;
use crate::process::logging::{self, Filter};
use crate::process::{sandbox, signals};

/// Environment: the worker's id, for the tag of its log lines.
pub(crate) const ID_VARIABLE: &str = "KAKEHI_WORKER_ID";

/// Environment: where its log goes, as `log_target` in the configuration.
pub(crate) const LOG_TARGET_VARIABLE: &str = "KAKEHI_LOG_TARGET";

/// Environment: `true` if its log lines have colours.
pub(crate) const LOG_COLORED_VARIABLE: &str = "KAKEHI_LOG_COLORED";

/// Environment: `false` for a worker that enters no sandbox.
pub(crate) const SANDBOX_VARIABLE: &str = "KAKEHI_WORKER_SANDBOX";

/// Environment: the Unix sockets to which it may connect, as `worker_unix_sockets` in the configuration.
pub(crate) const UNIX_SOCKETS_VARIABLE: &str = "KAKEHI_WORKER_UNIX_SOCKETS";

/// The filter of a worker that was given none.
const FILTER_DEFAULT: &str = "info";

/// Runs this process as a worker until the main process stops it or is gone.
pub(crate) fn run() -> ExitCode {
    let channel = match take_channel() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("kakehi worker: {error}. Workers are started by `kakehi start`, not by hand.");
            return ExitCode::FAILURE;
        }
    };
    install_logger();
    // It was started by way of /proc/self/exe, which is what ps and top would call it.
    if let Err(error) = nix::sys::prctl::set_name(c"kakehi") {
        log::debug!("PR_SET_NAME: {error}");
    }
    let stop_signals = match signals::read_stop() {
        Ok(stop_signals) => stop_signals,
        Err(error) => {
            log::error!("cannot take over SIGINT and SIGTERM: {error}");
            return ExitCode::FAILURE;
        }
    };
    let authorities = warm_up();
    harden();
    match server::run(WorkerArguments {
        channel,
        stop_signals,
        protocol: crate::main_process::PROTOCOL,
        log: ErrorLog {
            set_filter: set_log_filter,
            set_sink: logging::set_sink,
            set_rate: logging::set_rate,
            lost: logging::lost,
        },
        authorities,
    }) {
        Ok(exit) => {
            log::debug!("worker ends: {exit:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::error!("worker ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets libraries look up now what they look up in files when they are first used. They would do without, but
/// not as well.
pub(crate) fn warm_up() -> SystemAuthorities {
    // Its generator watches /dev/sysgenid, where there is one, so that clones of a virtual machine do not draw
    // the same keys.
    if aws_lc_rs::rand::fill(&mut [0]).is_err() {
        log::warn!("the kernel gives no randomness");
    }
    // Whose certificates backends may have. A cluster that needs them is refused if there are none; main tells why.
    let authorities = SystemAuthorities::default();
    if let Err(error) = authorities.get() {
        log::debug!("{error}");
    }
    authorities
}

/// Gives up what a worker does not need, unless it was told not to. Nothing of strangers has been read yet:
/// main sends no listening socket before it has sent the configuration, and that is read in the sandbox.
fn harden() {
    if variable(SANDBOX_VARIABLE).as_deref() == Some("false") {
        log::info!("sandbox: none (worker_sandbox)");
        return;
    }
    // What cannot be read allows least.
    let unix_sockets = variable(UNIX_SOCKETS_VARIABLE).and_then(|text| text.parse().ok());
    let sandbox = sandbox::enter(unix_sockets.unwrap_or(UnixSockets::None));
    log::info!("sandbox: {sandbox}");
    for part in sandbox.missing() {
        log::warn!("sandbox: without {part}");
    }
}

/// Changes what is logged from now on.
fn set_log_filter(filter: &str) -> Result<(), String> {
    logging::set_filter(Filter::parse(filter).map_err(|error| error.to_string())?);
    Ok(())
}

/// Moves the channel from standard input to a close-on-exec descriptor, and leaves /dev/null there.
fn take_channel() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let kind = SFlag::from_bits_truncate(fstat(stdin.as_fd())?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is not a channel"));
    }
    let channel = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

/// The logger works whatever the environment says: a worker must not fail for its log's sake.
fn install_logger() {
    let tag = match variable(ID_VARIABLE).and_then(|id| id.parse::<u32>().ok()) {
        Some(id) => format!("WRK-{id:02}"),
        None => "WRK".to_owned(),
    };
    let filter = logging::filter_from_environment()
        .and_then(Result::ok)
        .or_else(|| Filter::parse(FILTER_DEFAULT).ok())
        .expect("the default filter is one");
    let target = variable(LOG_TARGET_VARIABLE)
        .and_then(|target| LogTarget::parse(&target).ok())
        .unwrap_or(LogTarget::Stdout);
    let colored = variable(LOG_COLORED_VARIABLE).as_deref() == Some("true");
    if let Err(error) = logging::install(filter.clone(), &target, colored, &tag) {
        eprintln!("kakehi worker: log_target: {error}");
        // Standard output cannot fail to be opened.
        let _opened = logging::install(filter, &LogTarget::Stdout, colored, &tag);
    }
}

#[expect(clippy::disallowed_methods, reason = "the worker's arguments come in its environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
