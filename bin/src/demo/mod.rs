//! The demo backend: a small HTTP/1.1 server that greets, so that a new user has something to proxy.
//!
//! It is a process of its own (`kakehi demo-backend`). `start` runs two of them, and only when it has no
//! configuration file: see [`child`]. Anybody may start more by hand. [`server`] accepts connections,
//! [`exchange`] reads requests and writes answers. It knows nothing of the proxy, and shares no code with
//! it: one end of a conversation should not be able to hide a mistake of the other.

mod child;
mod exchange;
mod server;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub(crate) use child::DemoChild;

/// Why a demo backend does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The port is taken, most likely.
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    /// No thread, or nowhere to print.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The child process did not say where it listens.
    #[error("its process did not say where it listens, but {0:?}")]
    Report(String),
}

/// Arguments of `demo-backend`.
#[derive(clap::Args, Debug)]
pub(crate) struct DemoBackend {
    /// Port to listen on, at 127.0.0.1; 0 for any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Name to greet with
    #[arg(long, default_value = "demo")]
    name: String,
    /// Print the address alone, and end when standard input ends: how `start` runs it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl DemoBackend {
    /// Serves until the process is ended.
    pub(crate) fn run(self) -> Result<(), DemoError> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = listen(wanted).map_err(|error| DemoError::Listen { address: wanted, error })?;
        let address = listener.local_addr()?;
        let server = server::start(listener, &self.name)?;
        let mut stdout = io::stdout();
        if self.until_stdin_ends {
            writeln!(stdout, "{address}")?;
            stdout.flush()?;
            // Whatever comes is thrown away: the end is the message.
            io::copy(&mut io::stdin().lock(), &mut io::sink())?;
        } else {
            writeln!(stdout, "Demo backend {:?} listens on {address}. Ctrl-C ends it.", self.name)?;
            // It accepts for ever; a panic in it has been reported already.
            let _panicked = server.join();
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a server of its own, in a process of its own")]
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// The first line of what a child prints, at most `limit` bytes of it.
fn first_line(from: impl Read, limit: u64) -> io::Result<String> {
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(from.take(limit)), &mut line)?;
    Ok(line.trim_end().to_owned())
}
