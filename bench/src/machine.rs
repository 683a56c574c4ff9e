//! The machine: which core does what, and what the report says about it.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use crate::failure::{Context, Failure};

/// One core for the proxy under test, one for load and backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    pub load: usize,
    pub proxy: usize,
}

impl Cores {
    /// The first two cores this process may use.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn choose() -> Result<Cores, Failure> {
        let usable = sched_getaffinity(Pid::from_raw(0)).context("which cores there are")?;
        let mut cores = (0..CpuSet::count()).filter(|core| usable.is_set(*core).unwrap_or(false));
        match (cores.next(), cores.next()) {
            (Some(load), Some(proxy)) => Ok(Cores { load, proxy }),
            _ => Err(Failure::new("the benchmark needs two cores: one for the proxy, one for the rest")),
        }
    }
}

/// Moves the calling thread to a core. Threads and processes that it starts later inherit that.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn move_to(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).context(format_args!("moving to core {core}"))
}

/// Lets this process and its children open as many descriptors as the system allows.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn raise_descriptor_limit() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")
}

/// Where and with what the figures were taken, a line each.
pub(crate) fn description(kakehi: Option<&Path>) -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kakehi = kakehi.map_or_else(
        || "not measured".to_owned(),
        |binary| format!("{}, {}", first_line(&binary.display().to_string(), &["--version"]), revision()),
    );
    vec![
        ("date", first_line("date", &["-u", "+%Y-%m-%d"])),
        ("processor", format!("{}, {cores} cores", cpu_model(&cpuinfo).unwrap_or("unknown"))),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("Kakehi", kakehi),
        ("HAProxy", first_line("haproxy", &["-v"])),
        ("nginx", first_line("nginx", &["-v"])),
        ("their TLS", first_line("openssl", &["version"])),
    ]
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    Some(cpuinfo.lines().find(|line| line.starts_with("model name"))?.split_once(':')?.1.trim())
}

fn revision() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let commit = first_line("git", &["-C", root, "rev-parse", "--short=10", "HEAD"]);
    let changed = first_line("git", &["-C", root, "status", "--porcelain", "--untracked-files=no"]);
    let suffix = if changed.is_empty() { "" } else { " with changes" };
    format!("commit {commit}{suffix}")
}

/// First line of what a command prints, on either stream; empty if there is none.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(search(program)).args(arguments).output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

/// Debian keeps servers in `/usr/sbin`, which is not on everybody's path.
pub(crate) fn search(program: &str) -> String {
    let server = format!("/usr/sbin/{program}");
    if !program.contains('/') && Path::new(&server).exists() { server } else { program.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu\n";
        assert_eq!(cpu_model(cpuinfo), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model(""), None);
    }
}
