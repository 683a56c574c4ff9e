//! What a request costs: Kakehi, HAProxy, nginx and a relay that parses nothing, measured in turn on
//! one machine, as ratios of processor time per request.
//!
//! One thread here makes the load, another is the backend, both on one core; each proxy is a process
//! of its own on the other. Read [`scenarios`] for what is measured, [`peers`] for how the others are
//! configured, [`report`] for what comes out. `doc/benchmarks.md` is for whoever runs it.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark drives processes and is the outside world: clock, sockets, waiting"
)]

mod backend;
mod build;
mod callgrind;
mod content;
mod control;
mod failure;
mod load;
mod machine;
mod paced;
mod peers;
mod procfs;
mod relay;
mod report;
mod scenarios;
mod stats;
mod strace;
mod stream;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::failure::{Context, Failure};
use crate::machine::Cores;
use crate::peers::{Peer, Stage};
use crate::report::Row;
use crate::scenarios::{Effort, Scenario};

/// Pairs that make a figure, unless said otherwise.
const PAIRS: usize = 7;
/// `--quick` does that part of the work.
const QUICK_DIVISOR: u64 = 6;
const QUICK_PAIRS: usize = 3;
/// The report, in this crate's directory.
const OUT: &str = "out/report.md";

/// Measures what a request costs Kakehi, HAProxy and nginx, and writes a report.
#[derive(Debug, Parser)]
#[command(name = "kakehi-bench")]
struct Arguments {
    /// What to measure; may be given several times [default: everything]
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// Whom to measure; may be given several times [default: everybody]
    #[arg(long, value_name = "NAME")]
    peer: Vec<Peer>,
    /// Measurements of each proxy [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pairs: Option<u16>,
    /// Fewer and shorter measurements: to see that all works, not for figures
    #[arg(long)]
    quick: bool,
    /// Where the report goes; text under its last heading is kept [default: bench/out/report.md]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Another binary of Kakehi, instead of building this one
    #[arg(long, value_name = "FILE")]
    kakehi: Option<PathBuf>,
    /// Measure nothing; leave a profile of Kakehi's worker under the scenario's load in target/bench
    #[arg(long, value_name = "TOOL")]
    profile: Option<Profiler>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profiler {
    /// For `callgrind_annotate --threshold=100 target/bench/callgrind.out`
    Callgrind,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The relay, as the process to be measured
    #[command(hide = true)]
    Relay { listen: SocketAddr, backend: SocketAddr },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        Some(Role::Relay { listen, backend }) => relay::run(*listen, *backend).map(|()| true),
        None => measure(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("kakehi-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True if no figure is void.
fn measure(arguments: &Arguments) -> Result<bool, Failure> {
    let peers = if arguments.peer.is_empty() { Peer::value_variants() } else { &arguments.peer };
    let kakehi = match &arguments.kakehi {
        Some(path) => Some(path.canonicalize().context(path.display())?),
        None if peers.contains(&Peer::Kakehi) => Some(build::release()?),
        None => None,
    };
    let cores = Cores::choose()?;
    machine::raise_descriptor_limit()?;
    machine::move_to(cores.load)?;
    // Told before, not after: somebody may commit while this runs.
    let machine = machine::description(kakehi.as_deref());
    let stage = Stage { cores, kakehi, peers: peers.to_vec() };
    let effort = effort(arguments);
    let scenarios =
        if arguments.scenario.is_empty() { Scenario::value_variants() } else { &arguments.scenario };
    if let Some(Profiler::Callgrind) = arguments.profile {
        let directory = build::target_directory()?.join("bench");
        std::fs::create_dir_all(&directory).context(directory.display())?;
        let scenario = scenarios.first().copied().unwrap_or(Scenario::Keepalive);
        scenarios::profile(scenario, &stage, effort, &directory.join("callgrind.out"))?;
        return Ok(true);
    }
    let mut rows = Vec::new();
    for scenario in scenarios {
        eprintln!("{scenario:?}");
        rows.extend(scenarios::measure(*scenario, &stage, effort));
    }
    let out = arguments.out.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(OUT));
    write_report(&out, &machine, &rows)?;
    Ok(rows.iter().all(|row| row.void.is_none()))
}

fn write_report(out: &Path, machine: &[(&str, String)], rows: &[Row]) -> Result<(), Failure> {
    let earlier = std::fs::read_to_string(out).unwrap_or_default();
    let text = report::render(machine, rows, report::words_of(&earlier));
    if let Some(directory) = out.parent().filter(|directory| *directory != Path::new("")) {
        std::fs::create_dir_all(directory).context(directory.display())?;
    }
    std::fs::write(out, &text).context(out.display())?;
    println!("{text}");
    eprintln!("written to {}", out.display());
    Ok(())
}

fn effort(arguments: &Arguments) -> Effort {
    let pairs = if arguments.quick { QUICK_PAIRS } else { PAIRS };
    Effort {
        pairs: arguments.pairs.map_or(pairs, usize::from),
        divisor: if arguments.quick { QUICK_DIVISOR } else { 1 },
    }
}
