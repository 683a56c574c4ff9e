//! What `/proc` tells about a process: memory, file descriptors, children, zombies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::skip::skipped;

/// Resident memory in bytes; `None` once the process is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Resident memory that belongs to no file, in bytes: what the process itself has allocated and touched, without its
/// code. `None` once the process is gone, or for who may not look into it.
pub fn private_bytes(pid: u32) -> Option<u64> {
    // Exact, which the status is not.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Processor time used so far, to a hundredth of a second; `None` once the process is gone.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 14 and 15 of proc_pid_stat(5), of which the third follows the name. A tick is 10 ms on Linux.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(14)? + ticks(15)?)))
}

/// Sets the soft limit on the descriptors of a process; by `None` to its hard limit.
///
/// # Panics
/// If prlimit(1) of util-linux is missing, or this user may not.
pub fn limit_fds(pid: u32, soft: Option<usize>) {
    let number = |text: &str| text.trim().parse::<usize>().expect("prlimit prints a number");
    let prlimit = |arguments: &[&str]| {
        let output = Command::new("prlimit").args(["--pid", &pid.to_string()]).args(arguments).output();
        let output = output.expect("prlimit runs");
        assert!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let soft = soft.unwrap_or_else(|| number(&prlimit(&["--nofile", "--raw", "--noheadings", "-o", "HARD"])));
    prlimit(&[&format!("--nofile={soft}:")]);
}

/// The lowest number that is no open descriptor of a process: it may have no more of them under a limit of that.
///
/// # Panics
/// If the process is gone, or this user may not look into it.
pub fn lowest_unused_fd(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of this user's");
    let used: Vec<usize> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !used.contains(number)).expect("there are many numbers")
}

/// Number of open file descriptors; `None` once the process is gone.
pub fn open_fds(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// What the open file descriptors point at (`socket:[..]`, paths), sorted: for failure messages.
pub fn fd_targets(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut targets: Vec<String> = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|path| path.display().to_string())
        .collect();
    targets.sort();
    targets
}

/// Direct children, zombies included, in no particular order.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Children that have died and were not reaped.
pub fn zombies(pid: u32) -> Vec<u32> {
    children(pid).into_iter().filter(|child| state(*child) == Some('Z')).collect()
}

/// The one-letter state (`R`, `S`, `Z`, ...); `None` once the process is gone.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: the state follows the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process runs: neither gone nor a zombie.
pub fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z'))
}

/// Processes whose working directory this is, as far as this user may see that.
pub fn working_in(directory: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_there = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path == directory);
    pids.filter(is_there).filter(|pid| is_alive(*pid)).collect()
}

/// The executable of a process; `None` once it is gone.
pub fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Whether a process goes by this name. Unlike its executable, anybody may know it of a process that cannot be
/// dumped, as ours are.
pub fn is_called(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}

/// Whether this user may look into processes that cannot be dumped: their descriptors, for instance. Root may;
/// says so, for a test to be skipped, if not.
pub fn may_look_inside() -> bool {
    let may = nix::unistd::geteuid().is_root();
    if !may {
        skipped("only root may look into the proxy's processes; `unshare -r` makes you root of them");
    }
    may
}

/// Numbers of the open descriptors that survive an `exec`: those without O_CLOEXEC. Standard input,
/// output and error are left out.
pub fn inheritable_fds(pid: u32) -> Vec<(u32, String)> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let info = fs::read_to_string(entry.path()).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
            (number > 2 && flags & O_CLOEXEC == 0).then(|| (number, target.display().to_string()))
        })
        .collect()
}

/// Raises this process' limit on open files as far as it may, for tests with thousands of connections; the
/// proxies that it starts inherit it.
pub fn raise_fd_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process has limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
}
