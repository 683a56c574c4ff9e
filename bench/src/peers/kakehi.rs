//! Kakehi: its defaults, but for what every peer is given (one worker, long idle times).

use std::fmt::Write;
use std::path::Path;

use super::{IDLE_SECONDS, Launch, Listen, Site, Wrapper, write};
use crate::content::host;
use crate::failure::Failure;

/// Environment: a program that workers are run under.
pub(super) const WORKER_WRAPPER: &str = "KAKEHI_WORKER_WRAPPER";

/// Tickets for each connection over TLS: as many as OpenSSL gives, so that all do the same work.
const TICKETS: usize = 2;

/// The command socket, in the proxy's directory.
pub(crate) const SOCKET: &str = "command.sock";

pub(super) fn launch(
    binary: &Path,
    site: &Site<'_>,
    wrapper: &Wrapper,
    listen: Listen<'_>,
    directory: &Path,
) -> Result<Launch, Failure> {
    let file = write(directory, "config.toml", &config(site, wrapper, listen))?;
    Ok(Launch {
        program: binary.display().to_string(),
        arguments: ["start", "-c", &file].map(str::to_owned).into(),
    })
}

fn config(site: &Site<'_>, wrapper: &Wrapper, listen: Listen<'_>) -> String {
    // A tool in the worker's own process writes files; without one the sandbox is part of what is measured.
    let sandbox = wrapper.0.is_empty();
    let address = listen.address;
    let protocol = match listen.tls {
        _ if site.tunnel => "tcp",
        Some(_) => "https",
        None => "http",
    };
    let mut text = format!(
        "worker_sandbox = {sandbox}\ncommand_socket = \"{SOCKET}\"\nworker_count = 1\nlog_level = \"warn\"\naccess_logs_target = \"none\"\n\
         max_connections = {}\nrequest_timeout = {IDLE_SECONDS}\nfront_timeout = {IDLE_SECONDS}\nback_timeout = {IDLE_SECONDS}\n\
         back_idle_timeout = {IDLE_SECONDS}\n\n\
         [[listeners]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n",
        site.connections_max
    );
    if let Some(files) = listen.tls {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "certificate = \"{}\"\nkey = \"{}\"\ntls_versions = [\"TLS_V13\"]\n\
             cipher_list = [\"TLS13_AES_256_GCM_SHA384\"]\ngroups_list = [\"x25519\"]\n\
             alpn_protocols = [\"http/1.1\"]\nsend_tls13_tickets = {TICKETS}\n",
            files.certificate.display(),
            files.key.display()
        );
    }
    if let (true, Some(backend)) = (site.tunnel, site.backends.first()) {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "\n[clusters.b0]\nprotocol = \"tcp\"\nfrontends = [{{ address = \"{address}\" }}]\n\
             backends = [{{ address = \"{backend}\" }}]\n"
        );
        return text;
    }
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
        if let Some(most) = site.in_flight_max {
            let _ = writeln!(text, "max_connections = {most}");
        }
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
        let listen = Listen { address: "127.0.0.1:80".parse().expect("an address"), tls: None };
        let text = config(
            &Site {
                hosts: 5,
                backends: &backends,
                connections_max: 9,
                identity: None,
                tunnel: false,
                in_flight_max: None,
            },
            &Wrapper::default(),
            listen,
        );
        assert_eq!(text.matches("protocol = \"http\"").count(), 3);
        assert_eq!(text.matches("hostname").count(), 5);
        assert_eq!(text.matches("[clusters.").count(), 2);
        let second = text.split("[clusters.b1]").nth(1).expect("a second cluster");
        assert!(second.contains("host-3.bench.test") && !second.contains("host-4.bench.test"));
    }

    #[test]
    fn a_tunnel_knows_no_hosts() {
        let backends = ["127.0.0.1:1".parse().expect("an address")];
        let listen = Listen { address: "127.0.0.1:80".parse().expect("an address"), tls: None };
        let site = Site {
            hosts: 1,
            backends: &backends,
            connections_max: 9,
            identity: None,
            tunnel: true,
            in_flight_max: None,
        };
        let text = config(&site, &Wrapper::default(), listen);
        assert_eq!(text.matches("protocol = \"tcp\"").count(), 2);
        assert!(!text.contains("hostname"));
    }
}
