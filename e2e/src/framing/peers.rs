//! nginx and HAProxy as the proxies beside which ours is seen, each in front of one backend.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::address::free_address;
use crate::deadline::await_value;

/// A running proxy of somebody else. Ended when dropped.
pub struct Peer {
    child: Child,
    address: SocketAddr,
    version: String,
    _directory: TempDir,
}

impl Peer {
    /// nginx in front of `backend`, with its defaults but for what a reverse proxy needs; each request has a
    /// connection of its own.
    ///
    /// `None`, and a line that says so, if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn nginx(backend: SocketAddr) -> Option<Peer> {
        let binary = find("nginx", &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"])?;
        let directory = tempfile::tempdir().expect("a directory for nginx");
        let prefix = directory.path().display().to_string();
        let address = free_address();
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {prefix}/{kind};\n"))
            .concat();
        // A client that has ended its direction still wants its answer.
        let config = format!(
            "{user}\ndaemon off;\nworker_processes 1;\npid {prefix}/pid;\nerror_log {prefix}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}\
             upstream back {{ server {backend} max_fails=0; }}\n\
             server {{ listen {address}; location / {{\n\
             proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_ignore_client_abort on; proxy_next_upstream off;\n}} }}\n}}\n"
        );
        let file = write_config(&directory, &config);
        let mut command = Command::new(binary);
        command.arg("-p").arg(directory.path()).arg("-c").arg(file);
        let version = version_of(binary).trim_start_matches("nginx version: ").to_owned();
        Some(Peer::start(command, address, version, directory))
    }

    /// HAProxy in front of `backend`, with its defaults; each client has connections of its own.
    ///
    /// `None`, and a line that says so, if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn haproxy(backend: SocketAddr) -> Option<Peer> {
        let binary = find("haproxy", &["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"])?;
        let directory = tempfile::tempdir().expect("a directory for haproxy");
        let address = free_address();
        let config = format!(
            "global\n  maxconn 1000\n  nbthread 1\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n  \
             http-reuse never\n\
             frontend front\n  bind {address}\n  default_backend back\n\
             backend back\n  server only {backend}\n"
        );
        let file = write_config(&directory, &config);
        let mut command = Command::new(binary);
        command.arg("-db").arg("-f").arg(file);
        let version = version_of(binary).split(" 20").next().unwrap_or_default().to_owned();
        Some(Peer::start(command, address, version, directory))
    }

    fn start(mut command: Command, address: SocketAddr, version: String, directory: TempDir) -> Peer {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("an installed program runs");
        await_value("the peer listens", || {
            assert!(child.try_wait().expect("our own child").is_none(), "{version} ended");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Peer { child, address, version, _directory: directory }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Name and version, as it says itself.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        crate::send_signal(self.child.id(), Signal::SIGTERM);
        let _reaped = self.child.wait();
    }
}

fn find(name: &str, paths: &[&'static str]) -> Option<&'static str> {
    let found = paths.iter().copied().find(|path| Path::new(path).exists());
    if found.is_none() {
        crate::skipped(&format!("{name} is not installed; .ci/run installs it"));
    }
    found
}

fn write_config(directory: &TempDir, config: &str) -> std::path::PathBuf {
    let file = directory.path().join("config");
    fs::write(&file, config).expect("a fresh directory");
    file
}

/// The first line that `-v` prints, wherever.
fn version_of(binary: &str) -> String {
    let output = Command::new(binary).arg("-v").output().expect("an installed program runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}
