//! Redis as a real TCP backend, if the machine has it, and a client of few words.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::address::free_address;
use crate::deadline::await_value;
use crate::tcp::TcpClient;

/// A running Redis that writes nothing to disk. Killed when dropped.
pub struct Redis {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Redis {
    /// Starts it, empty.
    ///
    /// `None`, and a line that says so, if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start.
    pub fn start() -> Option<Redis> {
        let directory = tempfile::tempdir().expect("a directory for redis");
        let address = free_address();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let started = Command::new("redis-server")
            .args(["--bind", &ip, "--port", &port, "--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            crate::skipped("redis is not installed; .ci/run installs it");
            return None;
        };
        await_value("redis listens", || {
            assert!(child.try_wait().expect("our own child").is_none(), "redis ended");
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
        Some(Redis { child, address, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `redis-benchmark` against an address: so many requests of each of these tests, tuned by `more`.
///
/// # Panics
/// If it is not installed; it comes with Redis.
pub fn redis_benchmark(address: SocketAddr, tests: &str, requests: u32, more: &[&str]) -> Output {
    Command::new("redis-benchmark")
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-q", "-t", tests, "-n", &requests.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("redis-benchmark comes with redis")
}

/// A connection that speaks RESP, and of it no more than lines and bulk strings.
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    /// A connection.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpClient::connect(address).stream) }
    }

    /// Sends commands, one to a line, and waits for nothing.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn send(&mut self, commands: &[&str]) {
        let text: String = commands.iter().map(|command| format!("{command}\r\n")).collect();
        self.stream.get_mut().write_all(text.as_bytes()).expect("the connection stands");
    }

    /// Reads the next line of an answer: `+OK`, `:1`, `$3`, or what a bulk string holds.
    ///
    /// # Panics
    /// If none comes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        assert!(line.ends_with("\r\n"), "a whole line instead of {line:?}");
        line.truncate(line.len() - 2);
        line
    }

    /// Sends a command whose answer has these lines.
    ///
    /// # Panics
    /// If it has others.
    pub fn says(&mut self, command: &str, answer: &[&str]) {
        self.send(&[command]);
        self.hears(answer);
    }

    /// Reads these lines.
    ///
    /// # Panics
    /// If others come.
    pub fn hears(&mut self, lines: &[&str]) {
        let heard: Vec<String> = lines.iter().map(|_| self.line()).collect();
        assert_eq!(heard, lines);
    }

    /// The connection itself, past what was read ahead.
    pub fn into_stream(self) -> BufReader<TcpStream> {
        self.stream
    }
}
