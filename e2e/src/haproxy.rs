//! HAProxy as a real peer on either side, if the machine has it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::address::free_address;
use crate::deadline::await_value;

/// A running HAProxy that passes everything on to one server. Killed when dropped.
pub struct Haproxy {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Haproxy {
    /// Starts HAProxy in front of `server`, with connections shared between clients.
    ///
    /// `None`, and a line that says so, if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(server: SocketAddr) -> Option<Haproxy> {
        Self::start_with(server, "", "")
    }

    /// The same with more words on its `bind` line and on its `server` line.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start_with(server: SocketAddr, bind: &str, towards: &str) -> Option<Haproxy> {
        let Some(binary) = find() else {
            crate::skipped("haproxy is not installed; .ci/run installs it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory for haproxy");
        let address = free_address();
        let config = format!(
            "global\n  maxconn 1000\n  nbthread 1\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  \
             http-reuse always\n\
             frontend front\n  bind {address} {bind}\n  default_backend back\n\
             backend back\n  server only {server} {towards}\n"
        );
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, config).expect("a fresh directory");
        let mut child = Command::new(binary)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy runs");
        await_value("haproxy listens", || {
            assert!(child.try_wait().expect("our own child").is_none(), "haproxy ended");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Some(Haproxy { child, address, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn find() -> Option<&'static str> {
    ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|is| is))
}
