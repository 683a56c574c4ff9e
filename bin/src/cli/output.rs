//! What goes to which stream, in which form.
//!
//! Standard output has the answer: words and tables, or with `--json` the content alone, as Sōzu prints
//! it. Standard error has everything that went wrong.

use std::io::{self, IsTerminal, Write};

use kakehi_command::proto::response_content::ContentType;
use serde::Serialize;

use super::client::Answer;
use super::table::visible;
use super::{CliError, certificate, cluster, connection_limit, frontend, listener, metrics, state, status};

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
    /// Of the terminal, in characters; `None` for pipes and files.
    width: Option<usize>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let terminal = || terminal_size::terminal_size_of(io::stdout());
        let width = io::stdout().is_terminal().then(terminal).flatten();
        Self { json, width: width.map(|(terminal_size::Width(columns), _)| columns.into()) }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows an answer as its content asks for.
    pub(super) fn answer(&self, answer: &Answer) -> Result<(), CliError> {
        self.answer_by(answer, |content| tables(content, self.width))
    }

    /// Shows an answer whose content the verb renders itself.
    pub(super) fn answer_by(
        &self,
        answer: &Answer,
        render: impl FnOnce(&ContentType) -> String,
    ) -> Result<(), CliError> {
        match (&answer.content, self.json) {
            (None, true) => self.print("{}\n"),
            (Some(content), true) => self.json(content),
            (None, false) => self.print(&format!("Success: {}\nNo content\n", visible(&answer.message))),
            (Some(content), false) => {
                self.print(&format!("Success: {}\n{}", visible(&answer.message), render(content)))
            }
        }
    }

    /// Prints a step of something longer; `--json` has the end alone.
    pub(super) fn progress(&self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.print(&format!("{}\n", visible(text))) }
    }

    /// Prints that all is done, as an answer without content.
    pub(super) fn done(&self, message: &str) -> Result<(), CliError> {
        self.answer(&Answer { message: message.to_owned(), content: None })
    }

    /// Prints a value as indented JSON.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Print(error.into()))?;
        self.print(&format!("{text}\n"))
    }

    /// Prints text as it is.
    pub(super) fn print(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Print)
    }

    /// Width of the terminal, in characters.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }
}

/// Prints an error on standard error.
pub(super) fn complain(error: &CliError) {
    // With standard error gone there is nobody left to tell.
    let _unprinted = writeln!(io::stderr(), "{}", visible(&error.to_string()));
}

/// Content for human eyes.
fn tables(content: &ContentType, width: Option<usize>) -> String {
    match content {
        ContentType::Workers(workers) => status::render(workers, width),
        ContentType::FrontendList(list) => frontend::render(list, width),
        ContentType::ListenersList(list) => listener::render(list, width),
        ContentType::RequestCounts(counts) => state::render(counts, width),
        ContentType::WorkerResponses(responses) => {
            let known = certificate::render_workers(responses, width);
            let known = known.or_else(|| cluster::render_closed(responses, width));
            known.unwrap_or_else(|| cluster::render(responses, width))
        }
        ContentType::CertificatesWithFingerprints(list) => certificate::render(list, width),
        ContentType::Metrics(aggregated) => metrics::render(aggregated, width),
        ContentType::AvailableMetrics(names) => metrics::render_names(names),
        ContentType::MaxConnectionsPerIpLimit(limit) => connection_limit::render_of_source(limit.limit),
        ContentType::MaxConnectionsPerSubnetLimit(limit) => connection_limit::render_of_subnet(limit),
        ContentType::HealthChecksList(list) => cluster::render_health_checks(list, width),
        ContentType::Revision(info) => format!("revision {}\n", info.revision),
        // No verb of ours asks for these yet: better unadorned than not at all.
        ContentType::Event(_)
        | ContentType::WorkerMetrics(_)
        | ContentType::Clusters(_)
        | ContentType::ClusterHashes(_)
        | ContentType::CertificatesByAddress(_)
        | ContentType::MetricDetailStatus(_)
        | ContentType::WorkerMetricDetailStatus(_)
        | ContentType::ClosedSessions(_)
        | ContentType::ProtectedHealthCheckReply(_) => format!("{}\n", visible(&format!("{content:#?}"))),
    }
}
