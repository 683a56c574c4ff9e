//! `listener udp`: add, update, remove, activate, deactivate. The proxy refuses them as long as it serves no UDP.

use std::net::SocketAddr;

use kakehi_command::config::Config;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{ListenerType, UdpListenerConfig, UpdateUdpListenerConfig};

use super::http::{Key, seconds};

/// Longest datagram that is taken, in bytes, unless set: what an Ethernet frame holds.
const MAX_RX_DATAGRAM_SIZE_DEFAULT: u32 = 1500;

/// Verbs of `listener udp`.
#[derive(clap::Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in super::super) enum Udp {
    /// Add a listener (not served yet)
    Add {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        settings: UdpSettings,
    },
    /// Change settings of a listener: those given, and no others (not served yet)
    Update {
        /// Address of the listener
        #[arg(short, long, value_name = "IP:PORT")]
        address: SocketAddr,
        #[command(flatten)]
        settings: UdpSettings,
    },
    /// Remove a listener (not served yet)
    Remove(Key),
    /// Bind the address and take datagrams (not served yet)
    Activate(Key),
    /// Take no more datagrams and free the address (not served yet)
    Deactivate(Key),
}

/// Settings that `add` and `update` share.
#[derive(clap::Args, Debug)]
pub(in super::super) struct UdpSettings {
    /// Address that clients use, for logs, if NAT is in front
    #[arg(long, value_name = "IP:PORT")]
    public_address: Option<SocketAddr>,
    /// How long a client may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    front_timeout: Option<u32>,
    /// How long a backend may be silent, in seconds
    #[arg(long, value_name = "SECONDS")]
    back_timeout: Option<u32>,
    /// Longest datagram, in bytes
    #[arg(long, value_name = "BYTES")]
    max_rx_datagram_size: Option<u32>,
    /// Flows at a time; 0: as many as fit
    #[arg(long, value_name = "N")]
    max_flows: Option<u32>,
}

impl Udp {
    /// The request these arguments stand for; `config` fills in the time-outs of a new listener.
    pub(super) fn request(self, config: &Config) -> RequestType {
        let kind = ListenerType::Udp;
        match self {
            Self::Add { key, settings } => {
                let (address, interface) = key.into_parts();
                RequestType::AddUdpListener(UdpListenerConfig {
                    address: address.into(),
                    public_address: settings.public_address.map(Into::into),
                    front_timeout: settings.front_timeout.unwrap_or_else(|| seconds(config.front_timeout)),
                    back_timeout: settings.back_timeout.unwrap_or_else(|| seconds(config.back_timeout)),
                    max_rx_datagram_size: settings
                        .max_rx_datagram_size
                        .unwrap_or(MAX_RX_DATAGRAM_SIZE_DEFAULT),
                    max_flows: settings.max_flows.unwrap_or_default(),
                    active: false,
                    interface,
                })
            }
            Self::Update { address, settings } => RequestType::UpdateUdpListener(UpdateUdpListenerConfig {
                address: address.into(),
                public_address: settings.public_address.map(Into::into),
                front_timeout: settings.front_timeout,
                back_timeout: settings.back_timeout,
                max_rx_datagram_size: settings.max_rx_datagram_size,
                max_flows: settings.max_flows,
            }),
            Self::Remove(key) => key.remove(kind),
            Self::Activate(key) => key.activate(kind),
            Self::Deactivate(key) => key.deactivate(kind),
        }
    }
}
