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

    /// Starts nginx where each connection has to begin with a PROXY header; it answers every request by what that says:
    /// `CLIENT:PORT to SERVER:PORT`.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn expecting_headers(identity: Option<&Issued>) -> Option<Nginx> {
        let answer = "$proxy_protocol_addr:$proxy_protocol_port to \
                      $proxy_protocol_server_addr:$proxy_protocol_server_port";
        let words = if identity.is_some() { " ssl proxy_protocol" } else { " proxy_protocol" };
        Self::run(|address, prefix| {
            let tls = identity.map(|identity| tls_files(identity, prefix)).unwrap_or_default();
            http(prefix, &format!("listen {address}{words}; {tls} location / {{ return 200 \"{answer}\"; }}"))
        })
    }

    /// Starts nginx as a relay that begins each connection to `server` with a PROXY header.
    ///
    /// `None`, and a line that says so, if it has not the module for that.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn sending_headers(server: SocketAddr) -> Option<Nginx> {
        const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
        if !fs::exists(MODULE).is_ok_and(|is| is) {
            crate::skipped("nginx has no stream module; .ci/run installs it");
            return None;
        }
        let relay = |address| format!("listen {address}; proxy_pass {server}; proxy_protocol on;");
        Self::run(|address, _| {
            format!("load_module {MODULE};\nEVENTS\nstream {{ server {{ {} }} }}\n", relay(address))
        })
    }

    fn start_with(name: &str, identity: Option<&Issued>, unix: Option<&str>) -> Option<Nginx> {
        let words = if identity.is_some() { " ssl http2" } else { "" };
        let unix = unix.map(|path| format!("listen unix:{path};")).unwrap_or_default();
        Self::run(|address, prefix| {
            let tls = identity.map(|identity| tls_files(identity, prefix)).unwrap_or_default();
            let answer = format!("location / {{ return 200 \"{name}\"; }}");
            http(prefix, &format!("listen {address}{words}; {unix} {tls} {answer}"))
        })
    }

    /// Runs it with what is said for an address and a directory, `EVENTS` standing for what all have.
    fn run(config: impl FnOnce(SocketAddr, &str) -> String) -> Option<Nginx> {
        let Some(binary) = find() else {
            crate::skipped("nginx is not installed; .ci/run installs it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory for nginx");
        let address = free_address();
        debug_assert_ne!(address.ip(), Ipv4Addr::LOCALHOST);
        let prefix = directory.path().display().to_string();
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        let events = format!(
            "{user}\ndaemon off;\nworker_processes 1;\npid {prefix}/pid;\nerror_log {prefix}/error.log;\n\
             events {{ worker_connections 4096; }}\n"
        );
        let config = config(address, &prefix).replace("EVENTS\n", &events);
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

/// A server of HTTP.
fn http(prefix: &str, server: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {prefix}/{kind};\n"))
        .concat();
    format!("EVENTS\nhttp {{\naccess_log off;\n{temporary}server {{ {server} }}\n}}\n")
}

/// Its certificate and key, put into its directory.
fn tls_files(identity: &Issued, prefix: &str) -> String {
    for (file, text) in [("cert.pem", &identity.certificate), ("key.pem", &identity.key)] {
        fs::write(format!("{prefix}/{file}"), text).expect("a fresh directory");
    }
    format!("ssl_certificate {prefix}/cert.pem; ssl_certificate_key {prefix}/key.pem;")
}

fn find() -> Option<&'static str> {
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|is| is))
}
