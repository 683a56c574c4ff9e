//! `listener http`: add, update, remove, activate, deactivate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, CustomHttpAnswers, DeactivateListener, ForwardedHeaders, HttpListenerConfig,
    ListenerType, RemoveListener, UpdateHttpListenerConfig,
};

use super::super::{CliError, values};
use super::h2::H2Limits;

/// Cookie of sticky sessions, unless named.
const STICKY_NAME_DEFAULT: &str = "SOZUBALANCEID";

/// Verbs of `listener http`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Http {
    /// Add a listener; it accepts connections once it is activated
    Add(Box<Add>),
    /// Change settings of a listener: those given, and no others
    Update(Box<Update>),
    /// Remove a listener
    Remove(Key),
    /// Bind the address and accept connections
    Activate(Key),
    /// Stop accepting connections and free the address
    Deactivate(Key),
}

/// Which listener.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Key {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    #[arg(long, hide = true)]
    interface: Option<String>,
}

/// Settings that `add` and `update` share.
#[derive(clap::Args, Debug)]
struct Settings {
    /// Address that clients use, for forwarded headers, if another proxy or NAT is in front
    #[arg(long, value_name = "IP:PORT")]
    public_address: Option<SocketAddr>,
    /// How long a client may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    front_timeout: Option<u32>,
    /// How long a backend may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    back_timeout: Option<u32>,
    /// How long connecting to a backend may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<u32>,
    /// How long a request's head may take to arrive, in seconds
    #[arg(long, value_name = "SECONDS")]
    request_timeout: Option<u32>,
    /// Which headers tell backends about the client
    #[arg(long, value_name = "FAMILY", value_enum)]
    forwarded_headers: Option<Family>,
    #[arg(long, hide = true)]
    sticky_name: Option<String>,
    #[arg(long, hide = true)]
    expect_proxy: bool,
}

/// Arguments of `listener http add`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Add {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    settings: Settings,
    #[arg(long = "answer-404", hide = true, value_name = "FILE")]
    answer_404: Option<PathBuf>,
    #[arg(long = "answer-503", hide = true, value_name = "FILE")]
    answer_503: Option<PathBuf>,
}

/// Arguments of `listener http update`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Update {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    #[command(flatten)]
    settings: Settings,
    #[arg(long, hide = true, conflicts_with = "expect_proxy")]
    no_expect_proxy: bool,
    /// Name of the header with the request's id
    #[arg(long, value_name = "NAME")]
    sozu_id_header: Option<String>,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    h2: H2Limits,
}

/// Files with answers of the operator's own.
#[derive(clap::Args, Debug)]
struct Answers {
    #[arg(long = "answer-301", hide = true, value_name = "FILE")]
    answer_301: Option<PathBuf>,
    #[arg(long = "answer-401", hide = true, value_name = "FILE")]
    answer_401: Option<PathBuf>,
    #[arg(long = "answer-404", hide = true, value_name = "FILE")]
    answer_404: Option<PathBuf>,
    #[arg(long = "answer-408", hide = true, value_name = "FILE")]
    answer_408: Option<PathBuf>,
    #[arg(long = "answer-413", hide = true, value_name = "FILE")]
    answer_413: Option<PathBuf>,
    #[arg(long = "answer-421", hide = true, value_name = "FILE")]
    answer_421: Option<PathBuf>,
    #[arg(long = "answer-429", hide = true, value_name = "FILE")]
    answer_429: Option<PathBuf>,
    #[arg(long = "answer-502", hide = true, value_name = "FILE")]
    answer_502: Option<PathBuf>,
    #[arg(long = "answer-503", hide = true, value_name = "FILE")]
    answer_503: Option<PathBuf>,
    #[arg(long = "answer-504", hide = true, value_name = "FILE")]
    answer_504: Option<PathBuf>,
    #[arg(long = "answer-507", hide = true, value_name = "FILE")]
    answer_507: Option<PathBuf>,
}

/// Families of forwarded headers, as the configuration file spells them.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "snake_case")]
enum Family {
    Both,
    XForwarded,
    Rfc7239,
    None,
}

impl Http {
    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> Result<RequestType, CliError> {
        let proxy = ListenerType::Http.into();
        Ok(match self {
            Self::Add(add) => RequestType::AddHttpListener(add.listener(config)?),
            Self::Update(update) => RequestType::UpdateHttpListener(update.patch()?),
            Self::Remove(Key { address, interface }) => {
                RequestType::RemoveListener(RemoveListener { address: address.into(), proxy, interface })
            }
            Self::Activate(Key { address, interface }) => RequestType::ActivateListener(ActivateListener {
                address: address.into(),
                proxy,
                from_scm: false,
                interface,
            }),
            Self::Deactivate(Key { address, interface }) => {
                RequestType::DeactivateListener(DeactivateListener {
                    address: address.into(),
                    proxy,
                    to_scm: false,
                    interface,
                })
            }
        })
    }
}

impl Add {
    fn listener(self, config: &Config) -> Result<HttpListenerConfig, CliError> {
        let settings = self.settings;
        let answers = Answers { answer_404: self.answer_404, answer_503: self.answer_503, ..Answers::none() };
        Ok(HttpListenerConfig {
            address: self.key.address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy: settings.expect_proxy,
            sticky_name: settings.sticky_name.unwrap_or_else(|| STICKY_NAME_DEFAULT.to_owned()),
            front_timeout: settings.front_timeout.unwrap_or_else(|| seconds(config.front_timeout)),
            back_timeout: settings.back_timeout.unwrap_or_else(|| seconds(config.back_timeout)),
            connect_timeout: settings.connect_timeout.unwrap_or_else(|| seconds(config.connect_timeout)),
            request_timeout: settings.request_timeout.unwrap_or_else(|| seconds(config.request_timeout)),
            active: false,
            http_answers: answers.read()?,
            interface: self.key.interface,
            forwarded_headers: settings.forwarded_headers.map(|family| ForwardedHeaders::from(family).into()),
            ..HttpListenerConfig::default()
        })
    }
}

impl Update {
    fn patch(self) -> Result<UpdateHttpListenerConfig, CliError> {
        let settings = self.settings;
        let expect_proxy = match (settings.expect_proxy, self.no_expect_proxy) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let mut patch = UpdateHttpListenerConfig {
            address: self.address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy,
            sticky_name: settings.sticky_name,
            front_timeout: settings.front_timeout,
            back_timeout: settings.back_timeout,
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            http_answers: self.answers.read()?,
            sozu_id_header: self.sozu_id_header,
            forwarded_headers: settings.forwarded_headers.map(|family| ForwardedHeaders::from(family).into()),
            ..UpdateHttpListenerConfig::default()
        };
        self.h2.put_into(&mut patch);
        Ok(patch)
    }
}

impl Answers {
    const fn none() -> Self {
        Self {
            answer_301: None,
            answer_401: None,
            answer_404: None,
            answer_408: None,
            answer_413: None,
            answer_421: None,
            answer_429: None,
            answer_502: None,
            answer_503: None,
            answer_504: None,
            answer_507: None,
        }
    }

    /// The files' contents; `None` if no file was given.
    fn read(self) -> Result<Option<CustomHttpAnswers>, CliError> {
        let read = |path: Option<PathBuf>| path.as_deref().map(values::file_text).transpose();
        let answers = CustomHttpAnswers {
            answer_301: read(self.answer_301)?,
            answer_400: None,
            answer_401: read(self.answer_401)?,
            answer_404: read(self.answer_404)?,
            answer_408: read(self.answer_408)?,
            answer_413: read(self.answer_413)?,
            answer_421: read(self.answer_421)?,
            answer_429: read(self.answer_429)?,
            answer_502: read(self.answer_502)?,
            answer_503: read(self.answer_503)?,
            answer_504: read(self.answer_504)?,
            answer_507: read(self.answer_507)?,
        };
        Ok((answers != CustomHttpAnswers::default()).then_some(answers))
    }
}

impl From<Family> for ForwardedHeaders {
    fn from(family: Family) -> Self {
        match family {
            Family::Both => Self::Both,
            Family::XForwarded => Self::XForwarded,
            Family::Rfc7239 => Self::Rfc7239,
            Family::None => Self::None,
        }
    }
}

/// Whole seconds: what the configuration holds, so nothing is lost.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
