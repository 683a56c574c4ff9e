//! HAProxy at its best: one thread, connections to servers always reused, bodies spliced, no log.

use std::fmt::Write;
use std::path::Path;

use super::{IDLE_SECONDS, Launch, Listen, Site, write};
use crate::content::host;
use crate::failure::Failure;

/// The runtime API's socket, in the proxy's directory.
pub(crate) const SOCKET: &str = "admin.sock";

/// What a pipe holds between two splices, as in ours: fewer calls than with the default of 64 KiB.
const PIPE_BYTES: usize = 1024 * 1024;

/// Buffers for whatever passes, two for each request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    /// Of 16 KiB.
    Default,
    /// Of 64 KiB.
    Large,
}

pub(super) fn launch(
    site: &Site<'_>,
    listen: Listen<'_>,
    directory: &Path,
    buffers: Buffers,
) -> Result<Launch, Failure> {
    let map: String =
        (0..site.hosts).map(|index| format!("{} b{}\n", host(index), site.cluster_of(index))).collect();
    let map = write(directory, "hosts.map", &map)?;
    let socket = directory.join(SOCKET).display().to_string();
    let file = write(directory, "haproxy.cfg", &config(site, listen, buffers, &map, &socket))?;
    Ok(Launch { program: "haproxy".into(), arguments: ["-db", "-f", &file].map(str::to_owned).into() })
}

fn config(site: &Site<'_>, listen: Listen<'_>, buffers: Buffers, map: &str, socket: &str) -> String {
    // One host: nothing to decide. Many: a map, whose look-up is a tree's (indexed strings).
    let route = if site.hosts == 1 {
        "default_backend b0".to_owned()
    } else {
        format!("use_backend %[req.hdr(host),map_str({map})]")
    };
    let address = listen.address;
    let tls = listen.tls.map_or_else(String::new, |files| {
        format!(
            " ssl crt {} alpn http/1.1 ssl-min-ver TLSv1.3 ciphersuites TLS_AES_256_GCM_SHA384 curves X25519",
            files.both.display()
        )
    });
    // Tickets hold all there is to a session: a cache beside costs time and memory for nothing.
    let cache = if listen.tls.is_some() { "  tune.ssl.cachesize 0\n" } else { "" };
    let buffers = match buffers {
        Buffers::Default => "",
        Buffers::Large => "  tune.bufsize 65536\n",
    };
    // What a mode does not know it warns of.
    let mode = if site.tunnel {
        "mode tcp".to_owned()
    } else {
        format!("mode http\n  timeout http-keep-alive {IDLE_SECONDS}s\n  http-reuse always")
    };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {}\n  tune.pipesize {PIPE_BYTES}\n  stats socket {socket} mode 600 level admin\n  \
         stats timeout {IDLE_SECONDS}s\n{cache}{buffers}\
         defaults\n  {mode}\n  timeout connect 5s\n  timeout client {IDLE_SECONDS}s\n  \
         timeout server {IDLE_SECONDS}s\n  \
         option splice-request\n  option splice-response\n\
         frontend front\n  bind {address}{tls}\n  {route}\n",
        site.connections_max
    );
    for (cluster, backend) in site.backends.iter().enumerate() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "backend b{cluster}");
        if let Some(most) = site.in_flight_max {
            let _ = writeln!(text, "  http-request return status 503 if {{ be_conn gt {most} }}");
        }
        let _ = writeln!(text, "  server s {backend}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hosts_are_a_map_and_one_is_not() {
        let backends = ["127.0.0.1:1".parse().expect("an address")];
        let listen = Listen { address: "127.0.0.1:80".parse().expect("an address"), tls: None };
        let site = |hosts| Site {
            hosts,
            backends: &backends,
            connections_max: 9,
            identity: None,
            tunnel: false,
            in_flight_max: None,
        };
        let one = config(&site(1), listen, Buffers::Default, "m", "s");
        assert!(one.contains("default_backend b0") && !one.contains("map_str"));
        let many = config(&site(2), listen, Buffers::Default, "m", "s");
        assert!(many.contains("map_str(m)") && !many.contains("default_backend"));
    }

    #[test]
    fn a_tunnel_is_told_nothing_of_http() {
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
        let text = config(&site, listen, Buffers::Default, "m", "s");
        assert!(text.contains("mode tcp\n") && !text.contains("http"));
        assert!(text.contains("option splice-response\n"));
    }
}
