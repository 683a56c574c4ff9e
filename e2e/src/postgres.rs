//! PostgreSQL as a real TCP backend, if the machine has it, and `psql` as its client.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::address::free_address;
use crate::deadline::{PATIENCE, await_value_within, try_await_value};
use crate::tls::{Authority, Issued};

/// Creating a database's files on a loaded machine, and the first answer.
const START_MAX: Duration = Duration::from_secs(60);
const PASSWORD: &str = "a secret";
/// The name that its certificate is for.
pub const POSTGRES_NAME: &str = "db.test";

/// A running PostgreSQL with TLS and a password. Ended when dropped.
pub struct Postgres {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Postgres {
    /// Starts it with an empty database. Since it refuses to be root's, it is that of its package's user then.
    ///
    /// `None`, and a line that says so, if it is not installed or there is no such user to be.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start(authority: &Authority) -> Option<Postgres> {
        let Some(programs) = find() else {
            crate::skipped("postgresql is not installed; .ci/run installs it");
            return None;
        };
        let owner = if geteuid().is_root() {
            let Ok(Some(user)) = User::from_name("postgres") else {
                crate::skipped("root cannot run postgresql, and there is no user postgres");
                return None;
            };
            Some((user.uid.as_raw(), user.gid.as_raw()))
        } else {
            None
        };
        let directory = tempfile::tempdir().expect("a directory for postgresql");
        let path = directory.path();
        prepare(path, &authority.issue(&[POSTGRES_NAME]), &authority.pem);
        let own = |path: &Path| owner.is_none_or(|(uid, gid)| chown(path, Some(uid), Some(gid)).is_ok());
        if ![path.to_owned(), path.join("server.key"), path.join("password")].iter().all(|path| own(path)) {
            crate::skipped("in this user namespace there is no user postgres");
            return None;
        }
        let program = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.current_dir(path).env("LC_ALL", "C").stdin(Stdio::null());
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
            command
        };
        let output = program("initdb")
            .args(["-D", "data", "-U", "postgres", "--no-sync", "-E", "UTF8", "-A", "scram-sha-256"])
            .args(["--pwfile", "password"])
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        fs::write(path.join("data/pg_hba.conf"), "host all all 127.0.0.0/8 scram-sha-256\n")
            .expect("initdb has made its directory");
        let address = free_address();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let child = program("postgres")
            .args(["-D", "data", "-h", &ip, "-p", &port, "-k", ""])
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "ssl=on"])
            .args(["-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("log")).expect("a fresh directory"))
            .spawn()
            .expect("postgres runs");
        let mut postgres = Postgres { child, address, directory };
        await_value_within(START_MAX, "postgresql answers", || {
            let ended = postgres.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "postgresql ended: {}", postgres.log());
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            let output = postgres.psql(address, "sslmode=disable").args(["-c", "SELECT 1"]).output();
            output.expect("psql is installed with postgresql").status.success().then_some(())
        });
        Some(postgres)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has complained of.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// `psql`, which connects to this address, with more of the connection's settings. It prints values and nothing
    /// else, and gives up at the first error.
    pub fn psql(&self, address: SocketAddr, settings: &str) -> Command {
        let authority = self.directory.path().join("ca.pem");
        let mut command = Command::new("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(format!(
                "host={POSTGRES_NAME} hostaddr={} port={} user=postgres dbname=postgres connect_timeout={} \
                 sslrootcert={} {settings}",
                address.ip(),
                address.port(),
                PATIENCE.as_secs(),
                authority.display()
            ))
            .env("PGPASSWORD", PASSWORD)
            // Nobody's certificates or settings.
            .env("HOME", self.directory.path())
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed outright it would leave its processes and its shared memory behind.
        crate::send_signal(self.child.id(), Signal::SIGQUIT);
        if try_await_value(PATIENCE, || self.child.try_wait().ok().flatten()).is_none() {
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- postgresql\n{}", self.log());
        }
    }
}

fn prepare(directory: &Path, identity: &Issued, authority: &str) {
    for (name, text) in [
        ("server.crt", identity.certificate.as_str()),
        ("server.key", &identity.key),
        ("ca.pem", authority),
        ("password", PASSWORD),
    ] {
        fs::write(directory.join(name), text).expect("a fresh directory");
    }
    fs::set_permissions(directory.join("server.key"), Permissions::from_mode(0o600)).expect("our own file");
}

/// Where its programs are, of the newest version if there are several.
fn find() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("postgres").exists())
        .collect();
    found.sort_by_key(|programs| {
        let version = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    found.pop()
}
