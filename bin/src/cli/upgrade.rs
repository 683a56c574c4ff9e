//! `upgrade`: the main process and then every worker from the binary on disk, or one worker alone.
//!
//! All workers are asked for at once; the proxy boots one successor at a time, and lets the old ones drain side by side.
//! A worker that cannot be replaced does not keep the others from being: all that went wrong is told at the end.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{ListWorkers, RunState, UpgradeMain, WorkerInfo};

use super::CliError;
use super::client::{Answer, Patience, Proxy};

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

/// Workers that are asked for at a time: each takes a connection.
const AT_A_TIME: usize = 256;

/// What is heard while workers are replaced.
enum News {
    /// One step of one of them.
    Step(WorkerId, String),
    /// How it ended.
    End(WorkerId, Result<Answer, CliError>),
}

type WorkerId = u32;

impl Upgrade {
    /// Replaces what is asked for, and waits for it.
    ///
    /// # Errors
    /// [`CliError::Refused`] with a line for each worker that was not replaced.
    pub(super) fn run(self, proxy: &mut Proxy) -> Result<(), CliError> {
        match self.worker {
            Some(id) => {
                let output = proxy.output;
                let note = |step: &str| output.progress(step);
                let answer = proxy.ask_noting(RequestType::UpgradeWorker(id), Patience::Upgrade, note)?;
                output.answer(&answer)
            }
            None => upgrade_all(proxy),
        }
    }
}

fn upgrade_all(proxy: &mut Proxy) -> Result<(), CliError> {
    let output = proxy.output;
    let asked = proxy.ask_noting(RequestType::UpgradeMain(UpgradeMain {}), Patience::Upgrade, |step| {
        output.progress(step)
    });
    let message = match asked {
        Ok(answer) => answer.message,
        // The old process may go before its answer is read. Whether there is a new one is found out next.
        Err(error) if error.is_hang_up() => "the main process has gone for its successor".to_owned(),
        Err(error) => return Err(error),
    };
    output.progress(&message)?;
    let workers = workers_of_the_successor(proxy)?;
    proxy.hang_up();
    let serving: Vec<WorkerId> =
        workers.iter().filter(|worker| is_serving(worker)).map(|worker| worker.id).collect();
    let mut failures = BTreeMap::new();
    for some in serving.chunks(AT_A_TIME) {
        replace(proxy, some, &mut failures)?;
    }
    if failures.is_empty() {
        let replaced = serving.len();
        let workers = if replaced == 1 { "1 worker".to_owned() } else { format!("{replaced} workers") };
        return output.done(&format!("upgraded the main process and {workers}"));
    }
    let count = failures.len();
    let workers = if count == 1 { "1 worker was".to_owned() } else { format!("{count} workers were") };
    let reasons: Vec<String> = failures.into_iter().map(|(id, why)| format!("worker {id}: {why}")).collect();
    Err(CliError::Refused(format!(
        "the main process is upgraded, {workers} not replaced and may run the old version; `upgrade --worker ID` \
         tries again\n{}",
        reasons.join("\n")
    )))
}

/// Asks for the replacement of all of these at once, each by a connection of its own: one that breaks off says nothing
/// about the others. The proxy decides which begins when.
fn replace(
    proxy: &Proxy,
    workers: &[WorkerId],
    failures: &mut BTreeMap<WorkerId, CliError>,
) -> Result<(), CliError> {
    let (told, news) = mpsc::channel();
    for &id in workers {
        let (mut proxy, told) = (proxy.beside(), told.clone());
        let wait = move || {
            let note = |step: &str| {
                // Nobody listens any more once the output is gone.
                let _unheard = told.send(News::Step(id, step.to_owned()));
                Ok(())
            };
            let end = proxy.ask_noting(RequestType::UpgradeWorker(id), Patience::Upgrade, note);
            let _unheard = told.send(News::End(id, end));
        };
        if let Err(error) = thread::Builder::new().spawn(wait) {
            failures.insert(id, CliError::Unusable(format!("cannot start a thread: {error}")));
        }
    }
    drop(told);
    for news in news {
        match news {
            News::Step(id, step) => proxy.output.progress(&format!("worker {id}: {step}"))?,
            News::End(id, Ok(answer)) => {
                proxy.output.progress(&format!("worker {id}: {}", answer.message))?;
            }
            News::End(id, Err(error)) => {
                failures.insert(id, error);
            }
        }
    }
    Ok(())
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
