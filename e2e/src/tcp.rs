//! TCP peers: backends that do with a connection what a test says, and clients that see how it ends.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;

use crate::deadline::PATIENCE;
use crate::requests::wire_address;

/// A backend that serves each connection in a thread of its own.
pub struct TcpBackend {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpBackend {
    /// One that does this with each connection, and closes it afterwards.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an address of ours");
        let address = listener.local_addr().expect("it is bound");
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ending = Arc::new(AtomicBool::new(false));
        let (count, now, end) = (accepted.clone(), open.clone(), ending.clone());
        let serve = Arc::new(serve);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                let (serve, now) = (serve.clone(), now.clone());
                // Ends with its connection.
                std::thread::spawn(move || {
                    let _patience = stream.set_read_timeout(Some(PATIENCE));
                    // Whatever breaks here, the client sees.
                    let _ended = serve(stream);
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, accepted, open, ending, thread: Some(thread) }
    }

    /// Says its name first, then repeats what comes. Says "over" at the end.
    pub fn echo(name: &'static str) -> Self {
        Self::start(move |mut stream| {
            stream.write_all(name.as_bytes())?;
            let mut buffer = vec![0; 65536];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.write_all(b"over"),
                    count => stream.write_all(buffer.get(..count).unwrap_or_default())?,
                }
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are being served.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for TcpBackend {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A client.
pub struct TcpClient {
    /// The connection.
    pub stream: TcpStream,
}

impl TcpClient {
    /// A connection.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("somebody listens")
    }

    /// A connection.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the connection stands");
    }

    /// Reads as many bytes as this text has, which they must be.
    ///
    /// # Panics
    /// If they are not.
    pub fn hears(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("instead of {text:?}: {error}"));
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// Sends a text that comes back.
    ///
    /// # Panics
    /// If it does not.
    pub fn says(&mut self, text: &str) {
        self.send(text);
        self.hears(text);
    }

    /// Says that no more will be sent.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// Reads to the end, an orderly one or not.
    ///
    /// # Panics
    /// If none comes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no end after {bytes:?}"),
            Ok(_) | Err(_) => bytes,
        }
    }

    /// Reads to the end, which must be an orderly one.
    ///
    /// # Panics
    /// If it is not, or none comes.
    pub fn rest_text(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).expect("text, and its end");
        text
    }
}

/// The settings of a TCP listener, with the protocol's defaults.
pub fn tcp_listener(address: SocketAddr) -> proto::TcpListenerConfig {
    proto::TcpListenerConfig {
        address: wire_address(address),
        front_timeout: 60,
        back_timeout: 30,
        connect_timeout: 3,
        ..Default::default()
    }
}

/// `ActivateListener` of a TCP listener.
pub fn activate_tcp_listener(address: SocketAddr) -> RequestType {
    RequestType::ActivateListener(proto::ActivateListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Tcp.into(),
        from_scm: false,
        ..Default::default()
    })
}

/// `DeactivateListener` of a TCP listener.
pub fn deactivate_tcp_listener(address: SocketAddr) -> RequestType {
    RequestType::DeactivateListener(proto::DeactivateListener {
        address: wire_address(address),
        proxy: proto::ListenerType::Tcp.into(),
        to_scm: false,
        ..Default::default()
    })
}

/// A frontend for everything that comes to a listener.
pub fn tcp_frontend(cluster: &str, listener: SocketAddr) -> proto::RequestTcpFrontend {
    proto::RequestTcpFrontend {
        cluster_id: cluster.into(),
        address: wire_address(listener),
        ..Default::default()
    }
}

/// A frontend for what asks for a server name, and for one of these protocols if there are some.
pub fn sni_frontend(
    cluster: &str,
    listener: SocketAddr,
    name: &str,
    alpn: &[&str],
) -> proto::RequestTcpFrontend {
    proto::RequestTcpFrontend {
        sni: Some(name.into()),
        alpn: alpn.iter().map(|&name| name.to_owned()).collect(),
        ..tcp_frontend(cluster, listener)
    }
}
