//! The proxies that are compared, each at its best: how they are configured, started and ended.
//!
//! Read [`Peer`] for who they are, `kakehi.rs`, `haproxy.rs` and `nginx.rs` for their configurations.
//! None of them writes a log; each has one worker, pinned to the proxy's core.

pub(crate) mod haproxy;
pub(crate) mod kakehi;
mod nginx;
mod process;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

pub(crate) use process::{Running, send as send_signal};

use crate::failure::{Context, Failure};
use crate::machine::{self, Cores};
use crate::tls::{Files, Identity};

/// Seconds after which an idle connection is closed, on either side: longer than any scenario.
const IDLE_SECONDS: u32 = 600;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    Kakehi,
    Haproxy,
    /// HAProxy with buffers four times its default, which suit large answers over TLS and cost memory.
    HaproxyLargeBuffers,
    Nginx,
    /// nginx with far larger buffers than its default, which suit large answers and cost memory.
    NginxLargeBuffers,
    /// The benchmark's own, which parses nothing.
    Relay,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Kakehi => "Kakehi",
            Peer::Haproxy => "HAProxy",
            Peer::HaproxyLargeBuffers => "HAProxy, 64 KiB buffers",
            Peer::Nginx => "nginx",
            Peer::NginxLargeBuffers => "nginx, 256 KiB buffers",
            Peer::Relay => "relay",
        }
    }
}

/// What is served: hosts, spread over clusters of one backend each.
pub(crate) struct Site<'a> {
    /// How many names; see [`crate::content::host`].
    pub hosts: usize,
    pub backends: &'a [SocketAddr],
    /// Clients that may be connected at a time.
    pub connections_max: usize,
    /// Whose name the proxy has to prove, over TLS; `None` for plain connections.
    pub identity: Option<&'a Identity>,
    /// A tunnel to the first backend: bytes both ways, of which the proxy understands nothing.
    pub tunnel: bool,
    /// Requests that the first cluster may have in flight: others are refused at once, by a 503.
    pub in_flight_max: Option<usize>,
}

impl Site<'_> {
    /// Which cluster a host belongs to.
    fn cluster_of(&self, host: usize) -> usize {
        host % self.backends.len()
    }
}

/// A tool that a proxy is run under, with its arguments; none of them holds a space.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wrapper(pub Vec<String>);

/// Where proxies run and which of ours.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub cores: Cores,
    /// Our release binary; `None` if it is not measured.
    pub kakehi: Option<PathBuf>,
    /// Who is measured.
    pub peers: Vec<Peer>,
}

/// Where a proxy listens, and with which certificate if over TLS.
#[derive(Clone, Copy)]
struct Listen<'a> {
    address: SocketAddr,
    tls: Option<&'a Files>,
}

/// What to start: a command line, and what is needed to know it later.
struct Launch {
    program: String,
    arguments: Vec<String>,
}

impl Stage {
    /// Those of a scenario's peers who are measured.
    pub(crate) fn present(&self, peers: &[Peer]) -> Vec<Peer> {
        peers.iter().copied().filter(|peer| self.peers.contains(peer)).collect()
    }

    /// Starts a proxy on its core and waits until it takes connections.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub(crate) fn start(&self, peer: Peer, site: &Site<'_>, wrapper: &Wrapper) -> Result<Running, Failure> {
        let directory = tempfile::tempdir().context("a directory for the proxy")?;
        let address = free_address()?;
        let launch = self.launch(peer, site, wrapper, address, directory.path())?;
        // What is started inherits the core of the thread that starts it.
        machine::move_to(self.cores.proxy)?;
        let running = Running::spawn(peer, &launch.program, &launch.arguments, wrapper, address, directory);
        machine::move_to(self.cores.load)?;
        running?.await_listening()
    }

    fn launch(
        &self,
        peer: Peer,
        site: &Site<'_>,
        wrapper: &Wrapper,
        address: SocketAddr,
        directory: &Path,
    ) -> Result<Launch, Failure> {
        let identity = site.identity.map(|identity| identity.write(directory)).transpose()?;
        let listen = Listen { address, tls: identity.as_ref() };
        match peer {
            Peer::Kakehi => {
                let binary = self.kakehi.as_deref().context("no binary of Kakehi")?;
                kakehi::launch(binary, site, wrapper, listen, directory)
            }
            Peer::Haproxy => haproxy::launch(site, listen, directory, haproxy::Buffers::Default),
            Peer::HaproxyLargeBuffers => haproxy::launch(site, listen, directory, haproxy::Buffers::Large),
            Peer::Nginx => nginx::launch(site, wrapper, listen, directory, nginx::Buffers::Default),
            Peer::NginxLargeBuffers => nginx::launch(site, wrapper, listen, directory, nginx::Buffers::Large),
            Peer::Relay if identity.is_some() => Err(Failure::new("the relay knows no TLS")),
            Peer::Relay => {
                let own = std::env::current_exe().context("the benchmark's own path")?;
                let backend = site.backends.first().context("a relay needs a backend")?;
                Ok(Launch {
                    program: own.display().to_string(),
                    arguments: vec!["relay".into(), address.to_string(), backend.to_string()],
                })
            }
        }
    }
}

/// A loopback address that nobody listens on. Its IP is no one's source address, so that outgoing
/// connections cannot take the port before the proxy does.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 1), 0)).context("a free port")?;
    Ok(listener.local_addr()?)
}

/// Writes a configuration file and gives its path as an argument.
fn write(directory: &Path, name: &str, text: &str) -> Result<String, Failure> {
    let path = directory.join(name);
    std::fs::write(&path, text).context(path.display())?;
    Ok(path.display().to_string())
}
