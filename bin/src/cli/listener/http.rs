//! `listener http`: add, update, remove, activate, deactivate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    ActivateListener, DeactivateListener, ForwardedHeaders, HttpListenerConfig, ListenerType, RemoveListener,
    TraceContext, TrustedProxies, UpdateHttpListenerConfig,
};

use super::super::wait::Wait;
use super::super::{CliError, values};
use super::answers::Answers;
use super::h2::H2Limits;
use super::limits::Limits;

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
    Remove {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
    /// Bind the address and accept connections
    Activate(Key),
    /// Stop accepting connections and free the address
    Deactivate {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Which listener.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Key {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    /// The network interface that it is bound to, if it is to one: part of its identity
    #[arg(long, value_name = "NAME")]
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
    /// A proxy in front of this one, whose X-Forwarded-* and Forwarded are kept; may be repeated
    #[arg(long, value_name = "IP[/BITS]")]
    trusted_proxy: Vec<String>,
    /// What becomes of a request's traceparent: pass on the client's, or also make one where it has none
    #[arg(long, value_name = "WHAT", value_enum)]
    trace_context: Option<Trace>,
    /// How long an upgraded connection may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    tunnel_timeout: Option<u32>,
    /// Longest request line, in bytes; a longer one is answered 414
    #[arg(long, value_name = "BYTES")]
    max_request_line: Option<u32>,
    /// Longest body of a request, in bytes, 0 for any; a longer one is answered 413
    #[arg(long, value_name = "BYTES")]
    max_body_bytes: Option<u64>,
    /// Bytes a second that a client has to keep up with, 0 for none
    #[arg(long, value_name = "BYTES")]
    min_transfer_rate: Option<u32>,
    /// An answer of its own, as the text of a whole HTTP answer or `file://PATH`; may be repeated
    #[arg(long, value_name = "CODE=TEXT", value_parser = values::split_pair)]
    answer: Vec<(String, String)>,
    /// Name of the cookie of sticky sessions [default of a new listener: SOZUBALANCEID]
    #[arg(long, value_name = "NAME")]
    sticky_name: Option<String>,
    /// A PROXY header (version 1 or 2) opens each connection and tells who the client is
    #[arg(long)]
    expect_proxy: bool,
    /// An address or network whose connections open so, all others do not; may be repeated [default: all]
    #[arg(long, value_name = "IP[/BITS]")]
    expect_proxy_from: Vec<String>,
    #[command(flatten)]
    limits: Limits,
}

/// Arguments of `listener http add`, which are also some of those of `listener https add`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Add {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    settings: Settings,
    /// A file with the answer 404
    #[arg(long = "answer-404", value_name = "FILE")]
    answer_404: Option<PathBuf>,
    /// A file with the answer 503
    #[arg(long = "answer-503", value_name = "FILE")]
    answer_503: Option<PathBuf>,
}

/// Arguments of `listener http update`, which are also some of those of `listener https update`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct Update {
    /// Address of the listener
    #[arg(short, long, value_name = "IP:PORT")]
    address: SocketAddr,
    #[command(flatten)]
    settings: Settings,
    /// No PROXY header opens connections any more
    #[arg(long, conflicts_with = "expect_proxy")]
    no_expect_proxy: bool,
    /// Expect the header from everybody
    #[arg(long, conflicts_with = "expect_proxy_from")]
    reset_expect_proxy_from: bool,
    /// Name of the header with the request's id
    #[arg(long, value_name = "NAME")]
    sozu_id_header: Option<String>,
    /// Trust no proxy in front of this one any more
    #[arg(long, conflicts_with = "trusted_proxy")]
    no_trusted_proxies: bool,
    /// Limit no rate any more
    #[arg(long, conflicts_with = "rate_limit")]
    no_rate_limits: bool,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    h2: H2Limits,
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

/// What becomes of a trace context, as the configuration file spells it.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Trace {
    Pass,
    Make,
}

impl Http {
    /// Whether to wait for the last connection.
    pub(super) fn wait(&self) -> Wait {
        match self {
            Self::Remove { wait, .. } | Self::Deactivate { wait, .. } => *wait,
            _ => Wait::default(),
        }
    }

    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> Result<RequestType, CliError> {
        let kind = ListenerType::Http;
        Ok(match self {
            Self::Add(add) => RequestType::AddHttpListener(add.listener(config)?),
            Self::Update(update) => RequestType::UpdateHttpListener(update.patch()?),
            Self::Remove { key, .. } => key.remove(kind),
            Self::Activate(key) => key.activate(kind),
            Self::Deactivate { key, .. } => key.deactivate(kind),
        })
    }
}

impl Key {
    /// The address, and the interface if the listener is bound to one.
    pub(super) fn into_parts(self) -> (SocketAddr, Option<String>) {
        (self.address, self.interface)
    }

    pub(super) fn remove(self, kind: ListenerType) -> RequestType {
        let Self { address, interface } = self;
        RequestType::RemoveListener(RemoveListener { address: address.into(), proxy: kind.into(), interface })
    }

    pub(super) fn activate(self, kind: ListenerType) -> RequestType {
        let Self { address, interface } = self;
        RequestType::ActivateListener(ActivateListener {
            address: address.into(),
            proxy: kind.into(),
            from_scm: false,
            interface,
        })
    }

    pub(super) fn deactivate(self, kind: ListenerType) -> RequestType {
        let Self { address, interface } = self;
        RequestType::DeactivateListener(DeactivateListener {
            address: address.into(),
            proxy: kind.into(),
            to_scm: false,
            interface,
        })
    }
}

impl Add {
    pub(super) fn listener(self, config: &Config) -> Result<HttpListenerConfig, CliError> {
        let settings = self.settings;
        let limits = settings.limits.fields(false);
        let answers =
            Answers { answer_404: self.answer_404, answer_503: self.answer_503, ..Answers::default() };
        Ok(HttpListenerConfig {
            address: self.key.address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy: settings.expect_proxy,
            expect_proxy_from: settings.expect_proxy_from,
            sticky_name: settings.sticky_name.unwrap_or_else(|| STICKY_NAME_DEFAULT.to_owned()),
            front_timeout: settings.front_timeout.unwrap_or_else(|| seconds(config.front_timeout)),
            back_timeout: settings.back_timeout.unwrap_or_else(|| seconds(config.back_timeout)),
            connect_timeout: settings.connect_timeout.unwrap_or_else(|| seconds(config.connect_timeout)),
            request_timeout: settings.request_timeout.unwrap_or_else(|| seconds(config.request_timeout)),
            active: false,
            http_answers: answers.read()?,
            answers: values::answers(settings.answer)?,
            trusted_proxies: settings.trusted_proxy,
            trace_context: settings.trace_context.map(|trace| TraceContext::from(trace).into()),
            tunnel_timeout: settings.tunnel_timeout,
            max_request_line: settings.max_request_line,
            max_body_bytes: settings.max_body_bytes,
            min_transfer_rate: settings.min_transfer_rate,
            interface: self.key.interface,
            forwarded_headers: settings.forwarded_headers.map(|family| ForwardedHeaders::from(family).into()),
            rate_limits: limits.rate_limits,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            max_accept_rate: limits.max_accept_rate,
            over_limit: limits.over_limit,
            ..HttpListenerConfig::default()
        })
    }
}

impl Update {
    pub(super) fn patch(self) -> Result<UpdateHttpListenerConfig, CliError> {
        let settings = self.settings;
        let limits = settings.limits.fields(self.no_rate_limits);
        let expect_proxy = match (settings.expect_proxy, self.no_expect_proxy) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let expect_proxy_from = (self.reset_expect_proxy_from || !settings.expect_proxy_from.is_empty())
            .then_some(TrustedProxies { values: settings.expect_proxy_from });
        // None given: they stay. Switched off: the list is empty.
        let trusted_proxies = (self.no_trusted_proxies || !settings.trusted_proxy.is_empty())
            .then_some(TrustedProxies { values: settings.trusted_proxy });
        let mut patch = UpdateHttpListenerConfig {
            address: self.address.into(),
            public_address: settings.public_address.map(Into::into),
            expect_proxy,
            expect_proxy_from,
            sticky_name: settings.sticky_name,
            front_timeout: settings.front_timeout,
            back_timeout: settings.back_timeout,
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            http_answers: self.answers.read()?,
            sozu_id_header: self.sozu_id_header,
            answers: values::answers(settings.answer)?,
            trusted_proxies,
            trace_context: settings.trace_context.map(|trace| TraceContext::from(trace).into()),
            tunnel_timeout: settings.tunnel_timeout,
            max_request_line: settings.max_request_line,
            max_body_bytes: settings.max_body_bytes,
            min_transfer_rate: settings.min_transfer_rate,
            forwarded_headers: settings.forwarded_headers.map(|family| ForwardedHeaders::from(family).into()),
            rate_limits: limits.rate_limits,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            max_accept_rate: limits.max_accept_rate,
            over_limit: limits.over_limit,
            ..UpdateHttpListenerConfig::default()
        };
        self.h2.put_into(&mut patch);
        Ok(patch)
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

impl From<Trace> for TraceContext {
    fn from(trace: Trace) -> Self {
        match trace {
            Trace::Pass => Self::Pass,
            Trace::Make => Self::Make,
        }
    }
}

/// Whole seconds: what the configuration holds, so nothing is lost.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
