//! The system calls of a worker.
//!
//! Everything that is not in [`allowed`] is refused with EPERM, so that a library which tries something on the
//! side, such as the symbols of a backtrace or a file in `/proc`, goes on without. [`DEADLY`] are the calls
//! that nobody in a worker ever makes, not even by mistake; whoever makes one has taken the worker over, and
//! the kernel ends the process on the spot (SIGSYS). The main process says so and starts another worker.
//!
//! Two filters, since one knows but two outcomes; of both, the kernel takes the stricter one.
//!
//! Calls that are allowed whatever their arguments cost next to nothing: since Linux 5.11 the kernel knows them
//! from a bitmap and runs no filter. The calls of the data path must therefore stay free of conditions. Before
//! Linux 5.16 seccomp also switched on a mitigation (SSBD) that slows the whole process down.

use kakehi_command::config::UnixSockets;
use nix::libc;
use nix::libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Allowed with any arguments.
#[rustfmt::skip]
const FREE: &[c_long] = &[
    // The loop.
    libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_epoll_ctl, libc::SYS_epoll_create1,
    libc::SYS_ppoll, libc::SYS_restart_syscall,
    // Connections, and the channel to the main process. Neither bind nor listen: listening sockets come over
    // the channel.
    libc::SYS_accept4, libc::SYS_connect, libc::SYS_shutdown, libc::SYS_close,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_read, libc::SYS_readv,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_write, libc::SYS_writev,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt,
    // Long bodies.
    libc::SYS_splice, libc::SYS_pipe2,
    // Memory; what makes it executable has conditions.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk,
    // Time and randomness.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_getrandom,
    // Locks that nobody contends for, panics, and the end.
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_getpid, libc::SYS_gettid,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigaction, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_exit, libc::SYS_exit_group,
];

/// As [`FREE`]: what newer architectures have no number for.
#[cfg(target_arch = "x86_64")]
const FREE_OF_OLD: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const FREE_OF_OLD: &[c_long] = &[];

/// Ends the process.
#[rustfmt::skip]
const DEADLY: &[c_long] = &[
    // Programs and processes. A worker has one thread and starts none.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_clone, libc::SYS_clone3,
    // Other processes.
    libc::SYS_kill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_pidfd_getfd,
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp,
    // Other users and privileges.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset,
    // Other views of the machine.
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_chroot, libc::SYS_pivot_root,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_mount_setattr, libc::SYS_open_tree,
    libc::SYS_fsopen, libc::SYS_fspick, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_open_by_handle_at,
    // Parts of the kernel through which it has been taken over time and again.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_personality,
    // The machine itself.
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_reboot,
    libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_settimeofday, libc::SYS_clock_settime,
];

/// As [`DEADLY`]: what newer architectures have no number for.
#[cfg(target_arch = "x86_64")]
const DEADLY_OF_OLD: &[c_long] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_modify_ldt, libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const DEADLY_OF_OLD: &[c_long] = &[];

/// The type of a socket, without the flags that are passed beside it.
const SOCKET_TYPE: c_int = !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);

// Requests of ioctl(2), whose type in libc differs between C libraries.
const TIOCOUTQ: c_int = 0x5411;
const FIONREAD: c_int = 0x541B;
const FIONBIO: c_int = 0x5421;

/// All that must hold of one call's arguments: index, the bits that count, and their value.
type Arguments<'a> = &'a [(u8, c_int, c_int)];

/// All bits count.
const ALL: c_int = !0;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    /// It cannot be compiled: the architecture is none of those the crate knows.
    #[error(transparent)]
    Filter(#[from] BackendError),
    /// The kernel refused it.
    #[error(transparent)]
    Kernel(#[from] seccompiler::Error),
}

/// Puts the filters in force.
pub(super) fn enter(unix_sockets: UnixSockets) -> Result<(), SeccompError> {
    // The process' id as the kernel compares it; abort(3) sends its signal to no other.
    let (deadly, allowed) = (deadly()?, allowed(nix::unistd::getpid().as_raw(), unix_sockets)?);
    // The stricter one last: it takes away seccomp(2) itself.
    seccompiler::apply_filter(&deadly)?;
    seccompiler::apply_filter(&allowed)?;
    Ok(())
}

/// The filter for calls that end the process.
fn deadly() -> Result<BpfProgram, BackendError> {
    let rules = DEADLY.iter().chain(DEADLY_OF_OLD).map(|number| (*number, Vec::new())).collect();
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, architecture()?)?.try_into()
}

/// The filter for what a worker does; `own` is its process id.
fn allowed(own: c_int, unix_sockets: UnixSockets) -> Result<BpfProgram, BackendError> {
    let sockets: &[Arguments<'_>] = &[
        &[(0, ALL, libc::AF_INET), (1, SOCKET_TYPE, libc::SOCK_STREAM), (2, ALL, 0)],
        &[(0, ALL, libc::AF_INET6), (1, SOCKET_TYPE, libc::SOCK_STREAM), (2, ALL, 0)],
        // Where it leads is in memory, where a filter cannot look.
        &[(0, ALL, libc::AF_UNIX), (1, SOCKET_TYPE, libc::SOCK_STREAM), (2, ALL, 0)],
    ];
    let without_unix = usize::from(unix_sockets == UnixSockets::None);
    let sockets = &sockets[..sockets.len() - without_unix];
    let conditional: &[(c_long, &[Arguments<'_>])] = &[
        // Connections to backends. Datagrams will be for UDP, with recvmmsg and sendmmsg.
        (libc::SYS_socket, sockets),
        (
            libc::SYS_setsockopt,
            &[
                // No others: some of them reach the firewall, or another network.
                &[(1, ALL, libc::SOL_SOCKET), (2, ALL, libc::SO_LINGER)],
                &[(1, ALL, libc::IPPROTO_TCP), (2, ALL, libc::TCP_NODELAY)],
            ],
        ),
        (
            libc::SYS_fcntl,
            &[
                &[(1, ALL, libc::F_GETFD)],
                &[(1, ALL, libc::F_SETFD)],
                &[(1, ALL, libc::F_GETFL)],
                &[(1, ALL, libc::F_SETFL)],
                &[(1, ALL, libc::F_DUPFD_CLOEXEC)],
                &[(1, ALL, libc::F_GETPIPE_SZ)],
                // Whether the memory that main hands over can't shrink.
                &[(1, ALL, libc::F_GET_SEALS)],
                &[(1, ALL, libc::F_SETPIPE_SZ)],
            ],
        ),
        // What a socket has not sent or not read, and whether it waits. TIOCSTI and its kin stay out.
        (libc::SYS_ioctl, &[&[(1, ALL, TIOCOUTQ)], &[(1, ALL, FIONREAD)], &[(1, ALL, FIONBIO)]]),
        // Memory that is written is never run.
        (libc::SYS_mmap, &[&[(2, libc::PROT_EXEC, 0)]]),
        (libc::SYS_mprotect, &[&[(2, libc::PROT_EXEC, 0)]]),
        // abort(3), in glibc and in musl.
        (libc::SYS_tgkill, &[&[(0, ALL, own)]]),
        (libc::SYS_tkill, &[&[(0, ALL, own)]]),
    ];
    let conditional = conditional.iter().map(|(number, alternatives)| {
        let rules: Result<Vec<_>, _> = alternatives.iter().map(|arguments| rule(arguments)).collect();
        Ok((*number, rules?))
    });
    let free = FREE.iter().chain(FREE_OF_OLD).map(|number| Ok((*number, Vec::new())));
    let rules: Result<_, BackendError> = free.chain(conditional).collect();
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules?, refused, SeccompAction::Allow, architecture()?)?.try_into()
}

fn rule(arguments: Arguments<'_>) -> Result<SeccompRule, BackendError> {
    let conditions: Result<Vec<_>, _> = arguments
        .iter()
        .map(|(index, mask, value)| {
            let (mask, value) = (mask.cast_unsigned().into(), value.cast_unsigned().into());
            // All of these arguments are ints to the kernel, or flags in the lower half: it ignores the rest.
            SeccompCondition::new(*index, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
        })
        .collect();
    SeccompRule::new(conditions?)
}

fn architecture() -> Result<TargetArch, BackendError> {
    std::env::consts::ARCH.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_deadly() {
        let both: Vec<_> = FREE.iter().chain(FREE_OF_OLD).filter(|call| DEADLY.contains(call)).collect();
        assert!(both.is_empty(), "{both:?}");
    }

    #[test]
    fn requests_have_the_numbers_of_libc() {
        let ours = [TIOCOUTQ, FIONREAD, FIONBIO].map(i64::from);
        let libc = [libc::TIOCOUTQ, libc::FIONREAD, libc::FIONBIO].map(i64::try_from);
        assert_eq!(ours.map(Ok), libc);
    }
}
