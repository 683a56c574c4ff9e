//! The command line: Sōzu's verbs, and a `start` that needs nothing.
//!
//! One file per noun: its arguments and their help, the request they stand for, and how the answer is
//! shown. [`client`] is the conversation with a running proxy, [`settings`] where to find it, [`output`]
//! what goes to which stream; [`start`] runs the main process itself. Nothing here judges an order: the
//! proxy does, so that the command line and every other controller are told the same.
//!
//! Exit status: 0 done; 1 refused, failed, or not reachable; 2 arguments that make no sense. Read
//! [`Verb`] first.

mod backend;
mod certificate;
mod client;
mod cluster;
mod config;
mod connection_attempts;
mod connection_limit;
mod error;
mod events;
mod frontend;
mod generate;
mod hsts;
mod listener;
mod logging;
mod logs;
mod metrics;
mod output;
mod program;
mod reload;
mod runtime_dir;
mod settings;
mod shutdown;
mod start;
mod state;
mod status;
mod table;
mod tls;
mod top;
mod upgrade;
mod upgrade_probe;
mod values;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Parser, Subcommand};
use kakehi_command::order::ConnectionLimit;

use crate::demo;
use crate::worker;

use client::Proxy;
use error::CliError;

/// Help is wrapped at the terminal's width, but never wider than reads well.
const HELP_CHARS_MAX: usize = 100;

#[derive(Parser, Debug)]
#[command(
    version,
    about = "A reverse proxy that changes while it runs",
    max_term_width = HELP_CHARS_MAX,
    arg_required_else_help = true,
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb, before or after it.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Configuration file; without one, the configuration embedded in the program
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for the proxy, in milliseconds, 0 for ever [default: the configuration's
    /// ctl_command_timeout, 1000]
    #[arg(short, long, global = true, value_name = "MS")]
    timeout: Option<u64>,
    /// Print answers as JSON
    #[arg(short, long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the proxy in the foreground, until Ctrl-C
    Start,
    /// Stop the proxy: refuse new connections, finish the open ones
    Shutdown(shutdown::Shutdown),
    /// Show the workers and whether they answer
    Status,
    /// Work on a configuration file; needs no running proxy
    #[command(subcommand)]
    Config(config::Config),
    /// Apply a configuration file to the running proxy
    Reload(reload::Reload),
    /// Save and load what the running proxy is configured to do
    #[command(subcommand)]
    State(state::State),
    /// Add, remove and list clusters: named services
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Add, drain and remove backends: addresses that serve a cluster
    #[command(subcommand)]
    Backend(backend::Backend),
    /// Add, remove and list frontends: rules that send requests to clusters
    #[command(subcommand)]
    Frontend(frontend::Frontend),
    /// Add, update, remove, activate, deactivate and list listeners
    #[command(subcommand)]
    Listener(listener::Listener),
    /// Add, replace, remove and list certificates
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Show and configure metrics
    #[command(subcommand)]
    Metrics(metrics::Metrics),
    /// Show what happens in the proxy, as it happens
    Events,
    /// Show what the proxy does now, on a screen that is drawn anew each second; `q` ends it
    Top(top::Top),
    /// Change the log filter
    Logging(logging::Logging),
    /// Open the files of the logs anew, after they were moved away; SIGUSR1 does the same
    ReopenLogs,

    /// Limit the connections of one address to one cluster
    #[command(subcommand)]
    ConnectionLimit(connection_limit::ConnectionLimit),
    /// Limit the connections of one network to one cluster
    #[command(subcommand)]
    SubnetConnectionLimit(connection_limit::ConnectionLimit),
    /// Change how many connects to backends there are for one request
    #[command(subcommand)]
    ConnectionAttempts(connection_attempts::ConnectionAttempts),

    /// Replace the running processes by those of the program on disk, without losing a connection
    Upgrade(upgrade::Upgrade),
    /// Choose from access logs in JSON by JSONPath; needs no running proxy
    Logs(logs::Logs),

    /// Print a script that completes this command line in a shell
    Completions(generate::Completions),
    /// Write a man page for each verb
    Man(generate::Man),

    /// Serve a greeting over HTTP, as a backend to try the proxy with
    #[command(hide = true)]
    DemoBackend(demo::DemoBackend),
    /// Carry traffic for the main process that started this one
    #[command(hide = true)]
    Worker,
    /// Say whether this program could take over from a main process
    #[command(hide = true)]
    UpgradeProbe(upgrade_probe::UpgradeProbe),
}

/// Runs the verb in `arguments` (the program's name first) and gives the process' exit status.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that cannot be printed, to a closed pipe say, leaves nothing to be done.
            let _unprinted = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let Cli { globals, verb } = cli;
    match verb.run(&globals) {
        Ok(code) => code,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = program::command();
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

impl Verb {
    fn run(self, globals: &Globals) -> Result<ExitCode, CliError> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Self::Start => start::run(globals),
            Self::Worker => Ok(worker::run()),
            Self::UpgradeProbe(probe) => Ok(probe.run()),
            Self::DemoBackend(demo) => Ok(demo.run().map(done)?),
            Self::Config(config) => config.run(globals).map(done),
            Self::Upgrade(upgrade) => upgrade.run(&mut Proxy::new(globals)?).map(done),
            Self::Logs(logs) => logs.run(globals).map(done),
            Self::Completions(completions) => completions.run().map(done),
            Self::Man(man) => man.run(globals.json).map(done),
            Self::ConnectionLimit(verb) => {
                verb.run(ConnectionLimit::PerSource, &mut Proxy::new(globals)?).map(done)
            }
            Self::SubnetConnectionLimit(verb) => {
                verb.run(ConnectionLimit::PerSubnet, &mut Proxy::new(globals)?).map(done)
            }
            Self::ConnectionAttempts(verb) => verb.run(&mut Proxy::new(globals)?).map(done),
            Self::Top(top) => top.run(&mut Proxy::new(globals)?).map(done),
            Self::Shutdown(shutdown) => shutdown.run(&mut Proxy::new(globals)?).map(done),
            Self::Status => status::run(&mut Proxy::new(globals)?).map(done),
            Self::Reload(reload) => reload.run(&mut Proxy::new(globals)?).map(done),
            Self::State(state) => state.run(&mut Proxy::new(globals)?).map(done),
            Self::Cluster(cluster) => cluster.run(&mut Proxy::new(globals)?).map(done),
            Self::Backend(backend) => backend.run(&mut Proxy::new(globals)?).map(done),
            Self::Frontend(frontend) => frontend.run(&mut Proxy::new(globals)?).map(done),
            Self::Listener(listener) => listener.run(&mut Proxy::new(globals)?).map(done),
            Self::Certificate(certificate) => certificate.run(&mut Proxy::new(globals)?).map(done),
            Self::Metrics(metrics) => metrics.run(&mut Proxy::new(globals)?).map(done),
            Self::Events => events::run(&mut Proxy::new(globals)?).map(done),
            Self::ReopenLogs => logging::reopen(&mut Proxy::new(globals)?).map(done),
            Self::Logging(logging) => logging.run(&mut Proxy::new(globals)?).map(done),
        }
    }
}
