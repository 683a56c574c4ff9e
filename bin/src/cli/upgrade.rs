//! `upgrade`: the main process and then every worker from the binary on disk, or one worker alone.
//!
//! One worker at a time, so that the others serve meanwhile. A worker that cannot be replaced does not keep the
//! next one from being: all that went wrong is told at the end.

use std::thread;
use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{ListWorkers, RunState, UpgradeMain, WorkerInfo};

use super::CliError;
use super::client::{Patience, Proxy};

/// Arguments of `upgrade`.
#[derive(clap::Args, Debug)]
pub(super) struct Upgrade {
    /// Replace this worker alone; `status` has the numbers
    #[arg(long, value_name = "ID")]
    worker: Option<u32>,
}

/// How long the new main process may take until it answers on the command socket.
const RETURN_MAX: Duration = Duration::from_secs(60);

/// How often it is tried.
const RETURN_POLL: Duration = Duration::from_millis(100);

impl Upgrade {
    /// Replaces what is asked for, and waits for it.
    ///
    /// # Errors
    /// [`CliError::Refused`] with a line for each worker that was not replaced.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        match self.worker {
            Some(id) => {
                let answer = proxy.ask(RequestType::UpgradeWorker(id), Patience::Upgrade)?;
                proxy.output.answer(&answer)
            }
            None => upgrade_all(proxy),
        }
    }
}

fn upgrade_all(proxy: &mut Proxy) -> Result<(), CliError> {
    let message = match proxy.ask(RequestType::UpgradeMain(UpgradeMain {}), Patience::Upgrade) {
        Ok(answer) => answer.message,
        // The old process may go before its answer is read. Whether there is a new one is found out next.
        Err(error) if error.is_hang_up() => "the main process has gone for its successor".to_owned(),
        Err(error) => return Err(error),
    };
    proxy.output.progress(&message)?;
    let workers = workers_of_the_successor(proxy)?;
    let mut failures = Vec::new();
    let mut replaced = 0;
    for worker in workers.iter().filter(|worker| is_serving(worker)) {
        // A connection each: one that broke off says nothing about the next worker.
        proxy.hang_up();
        match proxy.ask(RequestType::UpgradeWorker(worker.id), Patience::Upgrade) {
            Ok(answer) => {
                replaced += 1;
                proxy.output.progress(&format!("worker {}: {}", worker.id, answer.message))?;
            }
            Err(error) => failures.push(format!("worker {}: {error}", worker.id)),
        }
    }
    if failures.is_empty() {
        let workers = if replaced == 1 { "1 worker".to_owned() } else { format!("{replaced} workers") };
        return proxy.output.done(&format!("upgraded the main process and {workers}"));
    }
    let count = failures.len();
    let workers = if count == 1 { "1 worker was".to_owned() } else { format!("{count} workers were") };
    Err(CliError::Refused(format!(
        "the main process is upgraded, {workers} not replaced and may run the old version; `upgrade --worker ID` \
         tries again\n{}",
        failures.join("\n")
    )))
}

/// Not those that are on their way out.
fn is_serving(worker: &WorkerInfo) -> bool {
    !matches!(worker.run_state(), RunState::Stopping | RunState::Stopped)
}

/// Asks until the new main process answers.
#[expect(clippy::disallowed_methods, reason = "a process that starts is waited for by the clock")]
fn workers_of_the_successor(proxy: &mut Proxy) -> Result<Vec<WorkerInfo>, CliError> {
    let since = Instant::now();
    loop {
        proxy.hang_up();
        match proxy.ask(RequestType::ListWorkers(ListWorkers {}), Patience::AsConfigured) {
            Ok(answer) => match answer.content {
                Some(ContentType::Workers(workers)) => return Ok(workers.vec),
                _ => return Err(CliError::Refused("the new main process tells of no workers".to_owned())),
            },
            Err(error) if error.is_absence() && since.elapsed() < RETURN_MAX => thread::sleep(RETURN_POLL),
            Err(error) => return Err(error),
        }
    }
}
