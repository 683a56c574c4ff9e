//! nginx at its best: one worker, connections upstream kept, nothing spooled to disk, no log.

use std::fmt::Write;
use std::path::Path;

use nix::unistd::geteuid;

use super::{IDLE_SECONDS, Launch, Listen, Site, Wrapper, write};
use crate::content::host;
use crate::failure::Failure;

/// Idle connections kept for each upstream; nginx counts those to backends with its clients'.
const BACK_CONNECTIONS: usize = 256;

/// Where Debian's package has what speaks TCP. Other builds may have it within.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Buffers for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    /// 8 of 4 KiB for a request.
    Default,
    /// One of 256 KiB for a request, passed on as it fills.
    Large,
}

pub(super) fn launch(
    site: &Site<'_>,
    wrapper: &Wrapper,
    listen: Listen<'_>,
    directory: &Path,
    buffers: Buffers,
) -> Result<Launch, Failure> {
    let mut text = if site.tunnel { tunnel(site, listen, buffers) } else { config(site, listen, buffers) };
    if !wrapper.0.is_empty() {
        // A tool has no hold on a worker that is forked off.
        text.insert_str(0, "master_process off;\n");
    }
    let file = write(directory, "nginx.conf", &text)?;
    let prefix = directory.display().to_string();
    Ok(Launch {
        program: "nginx".into(),
        arguments: ["-p", &prefix, "-c", &file, "-e", "stderr"].map(str::to_owned).into(),
    })
}

fn config(site: &Site<'_>, listen: Listen<'_>, buffers: Buffers) -> String {
    let buffers = match buffers {
        Buffers::Default => "",
        Buffers::Large => {
            "proxy_buffering off;\nproxy_buffer_size 256k;\nproxy_buffers 2 256k;\nproxy_busy_buffers_size 256k;\n"
        }
    };
    let address = listen.address;
    let process = process(site);
    // Tickets hold all there is to a session: a cache beside costs time and memory for nothing.
    let tls = listen.tls.map_or_else(String::new, |files| {
        format!(
            "ssl_certificate {};\nssl_certificate_key {};\nssl_protocols TLSv1.3;\n\
             ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;\nssl_ecdh_curve X25519;\n\
             ssl_session_tickets on;\nssl_session_cache none;\n",
            files.certificate.display(),
            files.key.display()
        )
    });
    let ssl = if listen.tls.is_some() { " ssl" } else { "" };
    let mut text = format!(
        "{process}http {{\naccess_log off;\nserver_tokens off;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         keepalive_timeout {IDLE_SECONDS}s;\nkeepalive_requests 1000000000;\nclient_max_body_size 0;\n\
         server_names_hash_max_size 65536;\nserver_names_hash_bucket_size 128;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n\
         proxy_max_temp_file_size 0;\nclient_body_buffer_size 128k;\n{buffers}{tls}"
    );
    for (cluster, backend) in site.backends.iter().enumerate() {
        let names: Vec<String> =
            (0..site.hosts).filter(|index| site.cluster_of(*index) == cluster).map(host).collect();
        // Options of a listening socket are given once.
        let options = if cluster == 0 { " backlog=4096" } else { "" };
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "upstream b{cluster} {{ server {backend}; keepalive {BACK_CONNECTIONS}; keepalive_requests 1000000000; \
             keepalive_timeout {IDLE_SECONDS}s; }}\n\
             server {{ listen {address}{ssl}{options}; server_name {};\n\
             location / {{ proxy_pass http://b{cluster}; }} }}\n",
            names.join("\n  ")
        );
    }
    text.push_str("}\n");
    text
}

/// What is there whatever passes.
fn process(site: &Site<'_>) -> String {
    // Started by root, nginx would otherwise make its worker somebody who cannot enter the directory.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid nginx.pid;\n\
         events {{ worker_connections {}; accept_mutex off; multi_accept on; }}\n",
        site.connections_max + BACK_CONNECTIONS
    )
}

/// Bytes both ways; nginx does not splice.
fn tunnel(site: &Site<'_>, listen: Listen<'_>, buffers: Buffers) -> String {
    let module = if Path::new(STREAM_MODULE).exists() {
        format!("load_module {STREAM_MODULE};\n")
    } else {
        String::new()
    };
    let buffers = match buffers {
        Buffers::Default => "",
        Buffers::Large => " proxy_buffer_size 256k;",
    };
    let servers: String = site
        .backends
        .iter()
        .take(1)
        .map(|backend| {
            format!(
                "server {{ listen {} backlog=4096; proxy_pass {backend}; proxy_timeout {IDLE_SECONDS}s;{buffers} }}\n",
                listen.address
            )
        })
        .collect();
    // Each client has a connection of its own to the backend.
    let site = Site { connections_max: 2 * site.connections_max, ..*site };
    format!("{module}{}stream {{\naccess_log off;\n{servers}}}\n", process(&site))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_block_for_each_cluster() {
        let backends =
            ["127.0.0.1:1".parse().expect("an address"), "127.0.0.1:2".parse().expect("an address")];
        let listen = Listen { address: "127.0.0.1:80".parse().expect("an address"), tls: None };
        let site = Site {
            hosts: 4,
            backends: &backends,
            connections_max: 9,
            identity: None,
            tunnel: false,
            in_flight_max: None,
        };
        let text = config(&site, listen, Buffers::Default);
        assert_eq!(text.matches("server_name ").count(), 2);
        assert_eq!(text.matches(".bench.test").count(), 4);
        assert_eq!(text.matches("backlog=").count(), 1);
    }

    #[test]
    fn a_tunnel_is_a_stream() {
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
        let text = tunnel(&site, listen, Buffers::Large);
        assert!(text.contains("stream {") && !text.contains("http"));
        assert!(text.contains("proxy_pass 127.0.0.1:1;") && text.contains("proxy_buffer_size 256k;"));
        assert!(text.contains("worker_connections 274;"));
    }
}
