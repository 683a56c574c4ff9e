//! [`Proxy`]: the running proxy as verbs see it. One request, one final answer.

use std::path::PathBuf;
use std::time::Duration;

use kakehi_command::channel::{BlockingChannel, ChannelError};
use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Request, Response, ResponseStatus};

use super::output::Output;
use super::{CliError, Globals, runtime_dir, settings};

/// How long a process that is to be replaced may take to answer.
const UPGRADE_MAX: Duration = Duration::from_secs(60);

type Channel = BlockingChannel<Request, Response>;

/// How long to wait for each message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// `--timeout`, or the configuration's `ctl_command_timeout`.
    AsConfigured,
    /// For ever, unless `--timeout` says otherwise: the answer comes when the last session has ended.
    Unlimited,
    /// A minute, unless `--timeout` says otherwise: a process starts.
    Upgrade,
}

/// The proxy that the global flags mean, and the way to show what it answers.
pub(super) struct Proxy {
    config: Config,
    /// Of `--config`.
    config_file: Option<PathBuf>,
    /// Of `--timeout`; zero means none.
    timeout: Option<Duration>,
    /// Connected at the first request: what is wrong with that is said without a proxy.
    channel: Option<Channel>,
    /// How answers are shown.
    pub(super) output: Output,
}

/// A final answer that is not a failure.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: String,
    pub(super) content: Option<ContentType>,
}

impl Proxy {
    /// Reads the configuration; connects to nothing yet.
    pub(super) fn new(globals: &Globals) -> Result<Self, CliError> {
        Ok(Self {
            config: settings::load_settings(globals.config.as_deref())?,
            config_file: globals.config.clone(),
            timeout: globals.timeout.map(Duration::from_millis),
            channel: None,
            output: Output::new(globals.json),
        })
    }

    /// The same proxy by another connection, opened at its first request.
    pub(super) fn beside(&self) -> Self {
        let Self { config, config_file, timeout, output, channel: _ } = self;
        Self {
            config: config.clone(),
            config_file: config_file.clone(),
            timeout: *timeout,
            channel: None,
            output: *output,
        }
    }

    /// The configuration that named the socket. It has no orders.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Asks, waits for the final answer, and shows it as its content asks for.
    pub(super) fn tell(&mut self, request: RequestType) -> Result<(), CliError> {
        let answer = self.ask(request, Patience::AsConfigured)?;
        self.output.answer(&answer)
    }

    /// Asks, and waits for the final answer; PROCESSING in between is patience well spent, nothing more.
    ///
    /// # Errors
    /// [`CliError::Refused`] for a FAILURE.
    pub(super) fn ask(&mut self, request: RequestType, patience: Patience) -> Result<Answer, CliError> {
        self.ask_noting(request, patience, |_| Ok(()))
    }

    /// As [`ask`](Self::ask), for what may take long: tells what PROCESSING says, each thing once.
    pub(super) fn ask_noting(
        &mut self,
        request: RequestType,
        patience: Patience,
        mut note: impl FnMut(&str) -> Result<(), CliError>,
    ) -> Result<Answer, CliError> {
        let mut noted = String::new();
        self.send(request)?;
        loop {
            let response = self.receive(patience)?;
            let content = response.content.and_then(|content| content.content_type);
            match ResponseStatus::try_from(response.status) {
                Ok(ResponseStatus::Processing) => {
                    if response.message != noted {
                        note(&response.message)?;
                        noted = response.message;
                    }
                }
                Ok(ResponseStatus::Ok) => return Ok(Answer { message: response.message, content }),
                Ok(ResponseStatus::Failure) | Err(_) => return Err(CliError::Refused(response.message)),
            }
        }
    }

    /// Sends a request whose answers are read one by one.
    pub(super) fn send(&mut self, request: RequestType) -> Result<(), CliError> {
        let request = Request { request_type: Some(request) };
        let limit = self.limit(Patience::AsConfigured);
        let sent = self.channel()?.send_deadline(&request, limit);
        sent.map_err(|error| self.channel_error(error, limit))
    }

    /// The next message, PROCESSING included.
    pub(super) fn receive(&mut self, patience: Patience) -> Result<Response, CliError> {
        let limit = self.limit(patience);
        let received = self.channel()?.receive_deadline(limit);
        received.map_err(|error| self.channel_error(error, limit))
    }

    /// Closes the connection: the next request opens another one.
    pub(super) fn hang_up(&mut self) {
        self.channel = None;
    }

    fn channel(&mut self) -> Result<&mut Channel, CliError> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.connect()?,
        };
        Ok(self.channel.insert(channel))
    }

    fn connect(&self) -> Result<Channel, CliError> {
        let socket = &self.config.command_socket;
        if self.config_file.is_none()
            && let Some(directory) = socket.parent()
            && directory.exists()
        {
            // In /tmp another user may have put a socket there first.
            runtime_dir::check(directory)?;
        }
        Channel::connect(socket, self.config.max_command_buffer_size).map_err(|error| match error {
            ChannelError::Io(error) => {
                CliError::Unreachable { socket: socket.clone(), config: self.config_file.clone(), error }
            }
            error => self.channel_error(error, None),
        })
    }

    fn limit(&self, patience: Patience) -> Option<Duration> {
        match (self.timeout, patience) {
            (Some(Duration::ZERO), _) | (None, Patience::Unlimited) => None,
            (Some(limit), _) => Some(limit),
            (None, Patience::Upgrade) => Some(UPGRADE_MAX),
            (None, Patience::AsConfigured) => self.config.ctl_command_timeout,
        }
    }

    fn channel_error(&self, error: ChannelError, limit: Option<Duration>) -> CliError {
        let socket = self.config.command_socket.clone();
        match (error, limit) {
            (ChannelError::TimedOut, Some(limit)) => CliError::Silent { socket, limit },
            (error, _) => CliError::Channel { socket, error },
        }
    }
}
