//! One thread that plays the client and the backend of a proxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wire::{Request, read_cut_request, read_request};
use crate::deadline::PATIENCE;

/// How long nothing may happen before client and backend end their connections, one after the other. Only
/// matters where a proxy waits for what never comes.
const QUIET_MS: u16 = 300;

/// The backend of one proxy, and the connections the proxy made to it.
pub struct Stage {
    listener: TcpListener,
    connections: Vec<Back>,
}

struct Back {
    stream: TcpStream,
    input: Vec<u8>,
    /// Another protocol is spoken: what comes is not read as requests.
    tunnel: bool,
    ended: bool,
}

/// What happened while a client had a connection.
pub struct Played {
    /// All that the client got.
    pub received: Vec<u8>,
    /// What reached the backend, in order.
    pub requests: Vec<Request>,
}

/// What the backend does with a request.
pub struct Reply {
    /// What it sends.
    pub bytes: Vec<u8>,
    /// Whether it ends the connection then.
    pub end: bool,
}

impl Stage {
    /// A backend that no proxy knows yet.
    ///
    /// # Panics
    /// If the machine has no sockets.
    pub fn new() -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has a free port");
        listener.set_nonblocking(true).expect("a fresh socket");
        Stage { listener, connections: Vec::new() }
    }

    /// Where proxies find it.
    ///
    /// # Panics
    /// If the machine has no sockets.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket")
    }

    /// Sends `input` to `proxy` and answers what reaches the backend, until the proxy ends the connection.
    /// If nothing happens any more, the client ends its direction, then the backend its own. `None` if the
    /// proxy does not end the connection even then.
    ///
    /// # Panics
    /// If the proxy cannot be connected to.
    pub fn play(
        &mut self,
        proxy: SocketAddr,
        input: &[u8],
        reply: &dyn Fn(&Request) -> Reply,
    ) -> Option<Played> {
        let mut client = Client::connect(proxy, input);
        let mut played = Played { received: Vec::new(), requests: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        while !client.ended {
            if Instant::now() > deadline {
                return None;
            }
            match self.await_events(&client) {
                true => {}
                false if !client.silent => client.fall_silent(),
                false => self.end_connections(),
            }
            client.step(&mut played.received);
            self.step(&mut played.requests, reply);
        }
        self.step(&mut played.requests, reply);
        Some(played)
    }

    /// What is left of requests whose connections have ended, or are only begun. Ends these connections.
    pub fn sweep(&mut self, requests: &mut Vec<Request>) {
        let begun = self.connections.iter().filter(|back| !back.tunnel);
        requests.extend(begun.filter_map(|back| read_cut_request(&back.input)));
        self.connections.retain(|back| !back.ended && back.input.is_empty() && !back.tunnel);
    }

    /// Waits until something can be done; whether something can.
    fn await_events(&self, client: &Client) -> bool {
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !client.output.is_empty());
        let mut fds = vec![PollFd::new(client.stream.as_fd(), wanted)];
        fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let backs = self.connections.iter().filter(|back| !back.ended);
        fds.extend(backs.map(|back| PollFd::new(back.stream.as_fd(), PollFlags::POLLIN)));
        // Interrupted by a signal: look again.
        poll(&mut fds, PollTimeout::from(QUIET_MS)).map_or(true, |count| count > 0)
    }

    /// A proxy that waits for more of an answer than there is gets its end, as from any server after a while.
    fn end_connections(&self) {
        for back in &self.connections {
            let _gone = back.stream.shutdown(Shutdown::Write);
        }
    }

    /// Takes what is there at the backend, without waiting.
    fn step(&mut self, requests: &mut Vec<Request>, reply: &dyn Fn(&Request) -> Reply) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a fresh socket");
            self.connections.push(Back { stream, input: Vec::new(), tunnel: false, ended: false });
        }
        for back in &mut self.connections {
            back.step(requests, reply);
        }
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::new()
    }
}

impl Back {
    fn step(&mut self, requests: &mut Vec<Request>, reply: &dyn Fn(&Request) -> Reply) {
        self.ended |= read_all(&mut self.stream, &mut self.input);
        while !self.tunnel
            && let Some((request, bytes)) = read_request(&self.input)
        {
            self.input.drain(..bytes);
            let Reply { bytes, end } = reply(&request);
            self.tunnel = bytes.starts_with(b"HTTP/1.1 101");
            requests.push(request);
            // A proxy that has gone does not want it.
            let _sent = self.stream.write_all(&bytes);
            if end {
                let _gone = self.stream.shutdown(Shutdown::Write);
            }
        }
        if self.ended {
            let _gone = self.stream.shutdown(Shutdown::Both);
        }
    }
}

struct Client {
    stream: TcpStream,
    output: Vec<u8>,
    /// Its direction has ended.
    silent: bool,
    ended: bool,
}

impl Client {
    fn connect(proxy: SocketAddr, input: &[u8]) -> Client {
        let stream = TcpStream::connect_timeout(&proxy, PATIENCE).expect("the proxy accepts connections");
        stream.set_nonblocking(true).expect("a fresh socket");
        let mut client = Client { stream, output: input.to_vec(), silent: false, ended: false };
        client.write();
        client
    }

    fn step(&mut self, received: &mut Vec<u8>) {
        self.write();
        self.ended = read_all(&mut self.stream, received);
    }

    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The proxy has heard enough; what it said is still to be read.
                Err(_) => self.output.clear(),
            }
        }
    }

    fn fall_silent(&mut self) {
        self.silent = true;
        let _gone = self.stream.shutdown(Shutdown::Write);
    }
}

/// Reads what is there; whether the connection has ended.
fn read_all(stream: &mut TcpStream, input: &mut Vec<u8>) -> bool {
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(count) => input.extend(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}
