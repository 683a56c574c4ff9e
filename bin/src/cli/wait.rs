//! `--wait`: a verb that returns when what it takes away carries nothing any more.

use kakehi_command::proto::WaitDrained;
use kakehi_command::proto::request::RequestType;

use super::CliError;
use super::client::{Patience, Proxy};

/// Milliseconds in a second.
const MS: u32 = 1000;

/// Whether to wait, and how long.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    /// Return when its last connection has ended
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so many seconds, with exit code 1: the change stands, connections go on [default: never]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u32>,
}

impl Wait {
    /// Sends a change that takes something away, waits if that was asked for, and shows the last answer.
    ///
    /// # Errors
    /// The proxy refuses, or connections are left.
    pub(super) fn tell(self, proxy: &mut Proxy, request: RequestType) -> Result<(), CliError> {
        let asked = if self.wait { drained_by(&request) } else { None };
        match asked {
            None => proxy.tell(request),
            Some(asked) => {
                proxy.ask(request, Patience::AsConfigured)?;
                self.tell_when_drained(proxy, asked)
            }
        }
    }

    /// Whether to wait.
    pub(super) fn is_asked(self) -> bool {
        self.wait
    }

    /// Waits, says that it does, and shows the answer.
    ///
    /// # Errors
    /// Connections are left.
    pub(super) fn tell_when_drained(self, proxy: &mut Proxy, asked: WaitDrained) -> Result<(), CliError> {
        let timeout_ms = self.wait_timeout.map(|seconds| seconds.saturating_mul(MS));
        let output = proxy.output;
        let request = RequestType::WaitDrained(WaitDrained { timeout_ms, ..asked });
        let answer = proxy.ask_noting(request, Patience::AsConfigured, |step| output.progress(step))?;
        output.answer(&answer)
    }
}

/// What has to drain after a change.
fn drained_by(request: &RequestType) -> Option<WaitDrained> {
    let listener = |address, interface: &Option<String>| WaitDrained {
        address: Some(address),
        interface: interface.clone(),
        ..WaitDrained::default()
    };
    Some(match request {
        RequestType::RemoveBackend(it) => WaitDrained {
            cluster_id: Some(it.cluster_id.clone()),
            backend_id: Some(it.backend_id.clone()),
            address: Some(it.address),
            ..WaitDrained::default()
        },
        RequestType::RemoveCluster(id) => {
            WaitDrained { cluster_id: Some(id.clone()), ..WaitDrained::default() }
        }
        RequestType::RemoveListener(it) => listener(it.address, &it.interface),
        RequestType::DeactivateListener(it) => listener(it.address, &it.interface),
        _ => return None,
    })
}
