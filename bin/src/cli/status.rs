//! `status`: the workers and whether they answer.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{RunState, Status, WorkerInfos};

use super::CliError;
use super::client::Proxy;
use super::table::Table;

/// Asks for the workers' states.
pub(super) fn run(proxy: &mut Proxy) -> Result<(), CliError> {
    proxy.tell(RequestType::Status(Status {}))
}

/// One row for each worker.
pub(super) fn render(workers: &WorkerInfos, width: Option<usize>) -> String {
    let mut table = Table::new(["worker id", "pid", "run state"]);
    for worker in &workers.vec {
        let state = RunState::try_from(worker.run_state).map_or("UNKNOWN", |state| state.as_str_name());
        table.row([worker.id.to_string(), worker.pid.to_string(), state.to_owned()]);
    }
    table.render(width)
}
