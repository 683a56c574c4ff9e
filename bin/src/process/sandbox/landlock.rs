//! The file system, the ports and the other processes of the machine: none of them for a worker.
//!
//! Best effort: an older kernel knows fewer of these rights, and what it knows is taken. Each was tried on a
//! kernel that has it; newer ones are not asked for unseen (the advice of the crate).
//!
//! Connecting over TCP stays, since backends are anywhere. Two things to come need a thought here: sending to
//! UDP backends (a right of its own since ABI 10), and backends and log targets at paths of the file system
//! (since ABI 9: `ResolveUnix`, which is best granted for their paths alone, never for the command socket's).

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
pub(super) fn enter() -> Result<ABI, LandlockError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
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
