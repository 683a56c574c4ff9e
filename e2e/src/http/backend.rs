//! Backends that do what a test tells them, well-behaved or not: a thread per connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::connection::Connection;
use super::message::{Fields, ReadError, RequestHead};
use crate::content::{Hasher, SeededContent};
use crate::deadline::PATIENCE;
use crate::unix;

/// No test keeps a backend connection idle for longer; it only bounds the life of a leaked thread.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// A backend on a port of its own. Stops accepting when dropped; connections end with their peer.
pub struct Backend {
    address: SocketAddr,
    unix: Option<UnixAddress>,
    shared: Arc<Shared>,
    requests: Receiver<RequestHead>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    served: AtomicUsize,
}

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Await the next request.
    KeepAlive,
    /// Close it.
    Close,
}

/// One request, in the hands of the script.
pub struct Exchange {
    connection: Connection,
    /// The request's head.
    pub head: RequestHead,
    /// Which request of its connection this is, from 0.
    pub index: usize,
}

impl Exchange {
    /// Reads the request's body to its end.
    ///
    /// # Errors
    /// If it is cut or malformed.
    pub fn body(&mut self) -> Result<(Vec<u8>, Fields), ReadError> {
        let mut body = Vec::new();
        let trailers = self.body_pieces(|piece| body.extend_from_slice(piece))?;
        Ok((body, trailers))
    }

    /// Hands the request's body over in pieces, as they come. A client that waits to be told so is
    /// told to continue first.
    ///
    /// # Errors
    /// If it is cut or malformed.
    pub fn body_pieces(&mut self, piece: impl FnMut(&[u8])) -> Result<Fields, ReadError> {
        if self.head.fields.has_token("Expect", "100-continue") {
            self.write("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.connection.body(self.head.framing()?, piece)
    }

    /// Reads the request's body to its end; gives its length and SHA-256.
    ///
    /// # Errors
    /// If it is cut or malformed.
    pub fn body_digest(&mut self) -> Result<(u64, String), ReadError> {
        let mut hasher = Hasher::default();
        self.body_pieces(|piece| hasher.update(piece))?;
        Ok((hasher.length(), hasher.finish()))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ReadError> {
        self.connection.write(bytes.as_ref())
    }

    /// Writes a 200 with a body of known length.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn answer(&mut self, body: &str) -> Result<(), ReadError> {
        self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Bytes as they come, whatever they mean; none at the end of the stream.
    ///
    /// # Errors
    /// If none come in time, or the connection breaks.
    pub fn read_some(&mut self) -> Result<Vec<u8>, ReadError> {
        self.connection.some()
    }

    /// Waits until the peer closes or resets the connection.
    pub fn await_close(&mut self) {
        while let Ok(true) = self.connection.fill("close") {
            self.connection.take_buffered();
        }
    }

    /// The socket, for options.
    pub fn stream(&self) -> &TcpStream {
        &self.connection.stream
    }
}

impl Backend {
    /// A backend that hands each request to `script`.
    pub fn start<S>(script: S) -> Backend
    where
        S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has a free port");
        Self::on(listener, script)
    }

    /// As [`Backend::start`], at a given address.
    pub fn start_at<S>(address: SocketAddr, script: S) -> Backend
    where
        S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
    {
        Self::on(TcpListener::bind(address).expect("the address is free"), script)
    }

    fn on<S>(listener: TcpListener, script: S) -> Backend
    where
        S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
    {
        let address = listener.local_addr().expect("a bound socket has an address");
        Self::accepting(address, None, move || listener.accept().map(|(stream, _)| stream), script)
    }

    /// As [`Backend::start`], on a Unix socket: a path, or `@` and an abstract name. What has the path is replaced.
    pub fn start_on_unix<S>(name: &str, script: S) -> Backend
    where
        S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
    {
        let listener = unix::listen(name);
        let address = unix::address(name);
        // What is done with a connection is the same, whatever kind of socket it is.
        let next = move || listener.accept().map(|(stream, _)| TcpStream::from(OwnedFd::from(stream)));
        Self::accepting((Ipv4Addr::UNSPECIFIED, 0).into(), Some(address), next, script)
    }

    fn accepting<S>(
        address: SocketAddr,
        unix: Option<UnixAddress>,
        next: impl Fn() -> io::Result<TcpStream> + Send + 'static,
        script: S,
    ) -> Backend
    where
        S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let (sender, requests) = mpsc::channel();
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(next, &accepting, &sender, &Arc::new(script)));
        Backend { address, unix, shared, requests }
    }

    /// As [`Backend::named`], on a Unix socket.
    pub fn named_on_unix(path: &str, name: &'static str) -> Backend {
        Self::start_on_unix(path, move |exchange| {
            exchange.body_digest()?;
            exchange.answer(name)?;
            Ok(After::KeepAlive)
        })
    }

    /// Answers every request by 200 and `name`; bodies are read and dropped.
    pub fn named(name: &'static str) -> Backend {
        Self::start(move |exchange| {
            exchange.body_digest()?;
            exchange.answer(name)?;
            Ok(After::KeepAlive)
        })
    }

    /// Answers every request by the given bytes, then closes or not.
    pub fn raw(response: impl Into<Vec<u8>>, after: After) -> Backend {
        let response = response.into();
        Self::start(move |exchange| {
            exchange.body_digest()?;
            exchange.write(&response)?;
            Ok(after)
        })
    }

    /// Reads requests and never answers.
    pub fn hanging() -> Backend {
        Self::start(|exchange| {
            exchange.body_digest()?;
            exchange.await_close();
            Ok(After::Close)
        })
    }

    /// Answers by `len` bytes (a multiple of eight) of seeded content, whatever is asked; a request's
    /// body is hashed, and its length and digest come back in `X-Length` and `X-Digest`.
    pub fn large(seed: u64, len: u64) -> Backend {
        Self::start(move |exchange| {
            let (length, digest) = exchange.body_digest()?;
            exchange.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nX-Length: {length}\r\nX-Digest: {digest}\r\n\r\n"
            ))?;
            let mut content = SeededContent::new(seed);
            let mut piece = vec![0; 64 * 1024];
            let mut left = len;
            while left > 0 {
                let count = left.min(64 * 1024);
                let slice = &mut piece[..usize::try_from(count).expect("at most 64 KiB")];
                content.fill(slice);
                exchange.write(slice)?;
                left -= count;
            }
            Ok(After::KeepAlive)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Requests whose script ended well.
    pub fn served(&self) -> usize {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// The next request head that arrived, in order of arrival.
    ///
    /// # Panics
    /// If none comes in time.
    pub fn next_request(&self) -> RequestHead {
        self.requests.recv_timeout(PATIENCE).expect("a request reaches the backend")
    }

    /// Whether a request is waiting for [`Backend::next_request`].
    pub fn has_request(&self) -> bool {
        self.requests.try_recv().is_ok()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; that nobody is there any more is fine.
        match &self.unix {
            Some(address) => drop(UnixStream::connect_addr(address)),
            None => drop(TcpStream::connect(self.address)),
        }
    }
}

fn accept<S>(
    next: impl Fn() -> io::Result<TcpStream>,
    shared: &Arc<Shared>,
    requests: &Sender<RequestHead>,
    script: &Arc<S>,
) where
    S: Fn(&mut Exchange) -> Result<After, ReadError> + Send + Sync + 'static,
{
    loop {
        let stream = next();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let (shared, requests, script) = (Arc::clone(shared), requests.clone(), Arc::clone(script));
        std::thread::spawn(move || {
            // How a connection ends is the test's to see on the proxy's other side.
            let _ended = serve(stream, &shared, &requests, script.as_ref());
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve<S>(
    stream: TcpStream,
    shared: &Shared,
    requests: &Sender<RequestHead>,
    script: &S,
) -> Result<(), ReadError>
where
    S: Fn(&mut Exchange) -> Result<After, ReadError>,
{
    // A Unix socket has no such option, and no need of it.
    let _delayed = stream.set_nodelay(true);
    stream.set_read_timeout(Some(IDLE_MAX)).map_err(ReadError::Io)?;
    let mut connection = Connection::new(stream);
    for index in 0.. {
        let Some((line, fields)) = connection.head()? else { break };
        let head = request_head(&line, fields)?;
        // The test may have stopped listening: the backend serves on.
        let _unheard = requests.send(head.clone());
        let mut exchange = Exchange { connection, head, index };
        let after = script(&mut exchange)?;
        shared.served.fetch_add(1, Ordering::SeqCst);
        if after == After::Close {
            break;
        }
        connection = exchange.connection;
    }
    Ok(())
}

fn request_head(line: &str, fields: Fields) -> Result<RequestHead, ReadError> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = parts.as_slice() else {
        return Err(ReadError::Malformed(format!("request line {line:?}")));
    };
    Ok(RequestHead {
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        version: (*version).to_owned(),
        fields,
    })
}
