//! nginx at its best: one worker, connections upstream kept, nothing spooled to disk, no log.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use nix::unistd::geteuid;

use super::{IDLE_SECONDS, Launch, Site, write};
use crate::content::host;
use crate::failure::Failure;

pub(super) fn launch(site: &Site<'_>, address: SocketAddr, directory: &Path) -> Result<Launch, Failure> {
    let file = write(directory, "nginx.conf", &config(site, address))?;
    let prefix = directory.display().to_string();
    Ok(Launch {
        program: "nginx".into(),
        arguments: ["-p", &prefix, "-c", &file, "-e", "stderr"].map(str::to_owned).into(),
    })
}

fn config(site: &Site<'_>, address: SocketAddr) -> String {
    // Started by root, nginx would otherwise make its worker somebody who cannot enter the directory.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let mut text = format!(
        "{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid nginx.pid;\n\
         events {{ worker_connections 16000; accept_mutex off; multi_accept on; }}\n\
         http {{\naccess_log off;\nserver_tokens off;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         keepalive_timeout {IDLE_SECONDS}s;\nkeepalive_requests 1000000000;\nclient_max_body_size 0;\n\
         server_names_hash_max_size 65536;\nserver_names_hash_bucket_size 128;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n\
         proxy_max_temp_file_size 0;\nclient_body_buffer_size 128k;\n"
    );
    for (cluster, backend) in site.backends.iter().enumerate() {
        let names: Vec<String> =
            (0..site.hosts).filter(|index| site.cluster_of(*index) == cluster).map(host).collect();
        // Options of a listening socket are given once.
        let options = if cluster == 0 { " backlog=4096" } else { "" };
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "upstream b{cluster} {{ server {backend}; keepalive 256; keepalive_requests 1000000000; \
             keepalive_timeout {IDLE_SECONDS}s; }}\n\
             server {{ listen {address}{options}; server_name {};\n\
             location / {{ proxy_pass http://b{cluster}; }} }}\n",
            names.join("\n  ")
        );
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_block_for_each_cluster() {
        let backends =
            ["127.0.0.1:1".parse().expect("an address"), "127.0.0.1:2".parse().expect("an address")];
        let text =
            config(&Site { hosts: 4, backends: &backends }, "127.0.0.1:80".parse().expect("an address"));
        assert_eq!(text.matches("server_name ").count(), 2);
        assert_eq!(text.matches(".bench.test").count(), 4);
        assert_eq!(text.matches("backlog=").count(), 1);
    }
}
