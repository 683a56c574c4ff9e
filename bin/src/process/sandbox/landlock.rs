//! The file system, the ports and the other processes of the machine: none of them for a worker.
//!
//! Best effort: an older kernel knows fewer of these rights, and what it knows is taken. Each was tried on a
//! kernel that has it; newer ones are not asked for unseen (the advice of the crate).
//!
//! Connecting over TCP stays, since backends are anywhere, and so does connecting to Unix sockets at paths, which
//! Landlock knows of since ABI 9 only (`ResolveUnix`): it would have to be granted for all paths beforehand, since
//! backends may come at any time. Where there are to be none, seccomp makes no such socket. One thing to come needs a
//! thought here: sending to UDP backends (a right of its own since ABI 10).

use kakehi_command::config::UnixSockets;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};

/// The newest version of Landlock whose rights are asked for.
const NEWEST: ABI = ABI::V7;

/// Why Landlock is not in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum LandlockError {
    /// It is built in, and off.
    #[error("not enabled at boot: see the kernel's lsm= parameter")]
    NotEnabled,
    /// The kernel has none.
    #[error("not in this kernel: Linux 5.13 or newer, built with it")]
    NotImplemented,
    /// It is there and refused.
    #[error(transparent)]
    Refused(#[from] RulesetError),
}

/// Gives up all files, listening on TCP ports, signals to other processes and their abstract sockets. Gives
/// the version of Landlock that this kernel has, as far as it is known here.
///
/// Abstract sockets stay in reach if `unix_sockets` wants them: the kernel knows no exceptions by name.
pub(super) fn enter(unix_sockets: UnixSockets) -> Result<ABI, LandlockError> {
    let mut scopes = Scope::from_all(NEWEST);
    if unix_sockets == UnixSockets::Any {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes)?
        .create()?
        // No rule is added: what is handled and not granted is denied.
        .restrict_self()?;
    match status.landlock {
        LandlockStatus::NotEnabled => Err(LandlockError::NotEnabled),
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            Ok(effective_abi)
        }
        _ => Err(LandlockError::NotImplemented),
    }
}
