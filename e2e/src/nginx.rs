//! nginx as a real backend, if the machine has it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::address::free_address;
use crate::deadline::await_value;
use crate::tls::Issued;

/// A running nginx that answers every request by its name. Killed when dropped.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx, with its defaults for keep-alive (connections end after 1,000 requests).
    ///
    /// `None`, and a line that says so, if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(name: &str) -> Option<Nginx> {
        Self::start_with(name, None, None)
    }

    /// The same on a Unix socket, too: at this path.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start_on_unix(name: &str, path: &str) -> Option<Nginx> {
        Self::start_with(name, None, Some(path))
    }

    /// The same over TLS, with HTTP/2.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start_tls(name: &str, identity: &Issued) -> Option<Nginx> {
        Self::start_with(name, Some(identity), None)
    }

    fn start_with(name: &str, identity: Option<&Issued>, unix: Option<&str>) -> Option<Nginx> {
        let Some(binary) = find() else {
            crate::skipped("nginx is not installed; .ci/run installs it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory for nginx");
        let address = free_address();
        debug_assert_ne!(address.ip(), Ipv4Addr::LOCALHOST);
        let prefix = directory.path().display().to_string();
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {prefix}/{kind};\n"))
            .concat();
        let (protocols, tls) = match identity {
            None => ("", String::new()),
            Some(identity) => {
                for (file, text) in [("cert.pem", &identity.certificate), ("key.pem", &identity.key)] {
                    fs::write(directory.path().join(file), text).expect("a fresh directory");
                }
                let files =
                    format!("ssl_certificate {prefix}/cert.pem; ssl_certificate_key {prefix}/key.pem;");
                (" ssl http2", files)
            }
        };
        let unix = unix.map(|path| format!("listen unix:{path};")).unwrap_or_default();
        let config = format!(
            "{user}\ndaemon off;\nworker_processes 1;\npid {prefix}/pid;\nerror_log {prefix}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off;\n{temporary}\
             server {{ listen {address}{protocols}; {unix} {tls} location / {{ return 200 \"{name}\"; }} }}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).expect("a fresh directory");
        let mut child = Command::new(binary)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx runs");
        await_value("nginx listens", || {
            assert!(
                child.try_wait().expect("our own child").is_none(),
                "nginx ended: see its error log in {prefix}"
            );
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Some(Nginx { child, address, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM takes its worker along; SIGKILL would leave it behind.
        crate::send_signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        let _reaped = self.child.wait();
    }
}

fn find() -> Option<&'static str> {
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|is| is))
}
