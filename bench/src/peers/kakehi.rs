//! Kakehi: its defaults, but for what every peer is given (one worker, long idle times).

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{IDLE_SECONDS, Launch, Site, Wrapper, write};
use crate::content::host;
use crate::failure::Failure;

/// Environment: a program that workers are run under.
pub(super) const WORKER_WRAPPER: &str = "KAKEHI_WORKER_WRAPPER";

/// The command socket, in the proxy's directory.
pub(crate) const SOCKET: &str = "command.sock";

pub(super) fn launch(
    binary: &Path,
    site: &Site<'_>,
    wrapper: &Wrapper,
    address: SocketAddr,
    directory: &Path,
) -> Result<Launch, Failure> {
    let file = write(directory, "config.toml", &config(site, wrapper, address))?;
    Ok(Launch {
        program: binary.display().to_string(),
        arguments: ["start", "-c", &file].map(str::to_owned).into(),
    })
}

fn config(site: &Site<'_>, wrapper: &Wrapper, address: SocketAddr) -> String {
    // A tool in the worker's own process writes files; without one the sandbox is part of what is measured.
    let sandbox = wrapper.0.is_empty();
    let mut text = format!(
        "worker_sandbox = {sandbox}\ncommand_socket = \"{SOCKET}\"\nworker_count = 1\nlog_level = \"warn\"\n\
         max_connections = {}\nfront_timeout = {IDLE_SECONDS}\nback_timeout = {IDLE_SECONDS}\n\
         back_idle_timeout = {IDLE_SECONDS}\n\n\
         [[listeners]]\nprotocol = \"http\"\naddress = \"{address}\"\n",
        site.connections_max
    );
    for (cluster, backend) in site.backends.iter().enumerate() {
        let frontends: Vec<String> = (0..site.hosts)
            .filter(|host| site.cluster_of(*host) == cluster)
            .map(|index| format!("{{ address = \"{address}\", hostname = \"{}\" }}", host(index)))
            .collect();
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "\n[clusters.b{cluster}]\nprotocol = \"http\"\nfrontends = [\n  {},\n]\n\
             backends = [{{ address = \"{backend}\", backend_id = \"s\" }}]\n",
            frontends.join(",\n  ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spread_over_clusters() {
        let backends =
            ["127.0.0.1:1".parse().expect("an address"), "127.0.0.1:2".parse().expect("an address")];
        let address = "127.0.0.1:80".parse().expect("an address");
        let site = Site { hosts: 5, backends: &backends, connections_max: 9 };
        let text = config(&site, &Wrapper::default(), address);
        assert_eq!(text.matches("hostname").count(), 5);
        assert_eq!(text.matches("[clusters.").count(), 2);
        let second = text.split("[clusters.b1]").nth(1).expect("a second cluster");
        assert!(second.contains("host-3.bench.test") && !second.contains("host-4.bench.test"));
    }
}
