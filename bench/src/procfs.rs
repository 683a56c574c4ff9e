//! What `/proc` tells about processes and the machine: processor time, memory, descendants.

use std::fs;
use std::path::Path;

use crate::failure::{Context, Failure};

/// A process and all its descendants, itself first.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut index = 0;
    while let Some(parent) = found.get(index).copied() {
        found.extend(children(parent));
        index += 1;
    }
    found
}

/// Direct children.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    tasks(pid)
        .iter()
        .filter_map(|task| fs::read_to_string(Path::new(task).join("children")).ok())
        .flat_map(|list| numbers(&list))
        .collect()
}

fn numbers(list: &str) -> Vec<u32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Directories of a process' threads.
fn tasks(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().display().to_string()).collect()
}

/// Nanoseconds of processor time, user and system, of all threads of all these processes: the
/// scheduler's own account, which is exact where `/proc/PID/stat` counts in ticks of 10 ms.
///
/// # Errors
/// If a process is gone, or the kernel keeps no account.
pub(crate) fn cpu_ns(pids: &[u32]) -> Result<u64, Failure> {
    let mut sum = 0;
    for pid in pids {
        let tasks = tasks(*pid);
        if tasks.is_empty() {
            return Err(Failure::new(format!("process {pid} is gone")));
        }
        for task in tasks {
            // A thread that ended just now has no account any more.
            let Ok(text) = fs::read_to_string(format!("{task}/schedstat")) else { continue };
            sum += schedstat_ns(&text).context("/proc/PID/schedstat: the kernel keeps no account")?;
        }
    }
    Ok(sum)
}

fn schedstat_ns(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Ticks of user and of system time of these processes; too coarse for anything but their shares.
pub(crate) fn user_and_system_ticks(pids: &[u32]) -> (u64, u64) {
    let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.iter()
        .filter_map(|pid| stat_ticks(&read(pid)?))
        .fold((0, 0), |(users, systems), (user, system)| (users + user, systems + system))
}

fn stat_ticks(stat: &str) -> Option<(u64, u64)> {
    // The name may hold spaces and parentheses: fields are counted from the last one on (proc(5)).
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Bytes of memory that these processes hold, pages they share counted in parts (PSS).
///
/// # Errors
/// If a process is gone, or not ours to look at.
pub(crate) fn memory_bytes(pids: &[u32]) -> Result<u64, Failure> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).context(&path)?;
        sum += kib_of(&text, "Pss:").context("no Pss in smaps_rollup")? * 1024;
    }
    Ok(sum)
}

/// Bytes that the kernel holds in slabs and in socket buffers, of the whole machine.
///
/// # Errors
/// If `/proc` does not tell.
pub(crate) fn kernel_memory_bytes() -> Result<u64, Failure> {
    let slabs = kib_of(&fs::read_to_string("/proc/meminfo")?, "Slab:").context("no Slab in /proc/meminfo")?;
    let pages = socket_pages(&fs::read_to_string("/proc/net/sockstat")?).context("/proc/net/sockstat")?;
    Ok(slabs * 1024 + pages * 4096)
}

/// The value of a line like `Pss:   123 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn socket_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// Ticks (1/100 s) in which a core was not idle.
///
/// # Errors
/// If there is no such core.
pub(crate) fn busy_ticks(core: usize) -> Result<u64, Failure> {
    core_busy_ticks(&fs::read_to_string("/proc/stat")?, core).context(format_args!("no core {core}"))
}

fn core_busy_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what follows is counted in user already.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_nanoseconds() {
        assert_eq!(schedstat_ns("1287371 2284935 2\n"), Some(1_287_371));
        assert_eq!(schedstat_ns(""), None);
    }

    #[test]
    fn stat_is_read_behind_the_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 5 6 7";
        assert_eq!(stat_ticks(stat), Some((11, 22)));
        assert_eq!(stat_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let rollup = "00-ff ---p 00000000 00:00 0 [rollup]\nRss:  9999 kB\nPss:   1234 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(kib_of(rollup, "Pss:"), Some(1234));
        assert_eq!(kib_of(rollup, "Swap:"), None);
        let sockstat = "sockets: used 99\nTCP: inuse 3 orphan 0 tw 0 alloc 5 mem 17\nUDP: inuse 1 mem 2\n";
        assert_eq!(socket_pages(sockstat), Some(17));
    }

    #[test]
    fn a_core_is_busy_when_neither_idle_nor_waiting() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 10 1 20 500 60 2 3 4 99 0\n";
        assert_eq!(core_busy_ticks(stat, 1), Some(40));
        assert_eq!(core_busy_ticks(stat, 2), None);
    }

    #[test]
    fn own_time_and_memory_can_be_read() {
        let own = [std::process::id()];
        assert!(cpu_ns(&own).expect("an account of this process") > 0);
        assert!(memory_bytes(&own).expect("this process' memory") > 0);
        assert_eq!(tree(own[0]).first(), Some(&own[0]));
    }
}
