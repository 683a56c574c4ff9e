//! TLS peers: an authority, certificates made on the spot, and a client that can be looked into.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{AddCertificate, CertificateAndKey, RemoveCertificate, ReplaceCertificate};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};

use crate::deadline::PATIENCE;
use crate::requests::wire_address;

/// Who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
    der: CertificateDer<'static>,
}

/// A certificate with its key, as texts.
#[derive(Clone)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// The certificate again.
    pub der: CertificateDer<'static>,
    /// The key again, as PKCS #8.
    pub key_der: Vec<u8>,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA over P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("Test Authority")
    }
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let der = certificate.der().clone();
        Self { pem: certificate.pem(), der, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_kind(Kind::Ecdsa, names)
    }

    /// A certificate for these names, with a key of this kind.
    pub fn issue_kind(&self, kind: Kind, names: &[&str]) -> Issued {
        self.issue_with(kind, names, |_| {})
    }

    /// A certificate of which `change` has the last word.
    pub fn issue_with(
        &self,
        kind: Kind,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        let name = names.first().map_or("nobody", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate().expect("a key"),
            Kind::Rsa => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key")
            }
        };
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// A list that revokes what has these serial numbers, in PEM.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|&serial| rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("signed").pem().expect("text")
    }

    /// What a client has that trusts this authority alone.
    pub fn client(&self) -> ClientOptions {
        ClientOptions { root: self.der.clone(), version: None, identity: None, careless: false }
    }
}

impl Issued {
    /// SHA-256 of its DER, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `AddCertificate` at a listener's address.
    pub fn add(&self, listener: SocketAddr) -> RequestType {
        RequestType::AddCertificate(AddCertificate {
            address: wire_address(listener),
            certificate: self.wire(),
            expired_at: None,
        })
    }

    /// `RemoveCertificate`.
    pub fn remove(&self, listener: SocketAddr) -> RequestType {
        RequestType::RemoveCertificate(RemoveCertificate {
            address: wire_address(listener),
            fingerprint: self.fingerprint(),
        })
    }

    /// `ReplaceCertificate` of `old` by this one.
    pub fn replace(&self, listener: SocketAddr, old: &Self) -> RequestType {
        RequestType::ReplaceCertificate(ReplaceCertificate {
            address: wire_address(listener),
            new_certificate: self.wire(),
            old_fingerprint: old.fingerprint(),
            new_expired_at: None,
        })
    }

    /// The message.
    pub fn wire(&self) -> CertificateAndKey {
        let mut wire = CertificateAndKey::default();
        wire.certificate.clone_from(&self.certificate);
        wire.key.clone_from(&self.key);
        wire
    }

    /// Its key in DER, as PKCS #8.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key_der.clone().into())
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct ClientOptions {
    root: CertificateDer<'static>,
    version: Option<&'static SupportedProtocolVersion>,
    identity: Option<Issued>,
    careless: bool,
}

impl ClientOptions {
    /// Only this version.
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Shows this certificate, if asked.
    pub fn identity(mut self, identity: &Issued) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Takes whatever certificate it is shown.
    pub fn careless(mut self) -> Self {
        self.careless = true;
        self
    }

    /// What connections share: tickets, above all.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = self.version.map_or(rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.der.clone()], identity.private_key())
                .expect("a key that fits"),
        };
        if self.careless {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            config.dangerous().set_certificate_verifier(Arc::new(Careless(provider)));
        }
        config.resumption = Resumption::in_memory_sessions(64);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A connection, handshake included.
    ///
    /// # Errors
    /// It fails.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsClient> {
        TlsClient::connect(&self.config(), address, name)
    }
}

/// A connection.
pub struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// What came back: status, the head as text, the body.
#[derive(Debug)]
pub struct TlsResponse {
    /// The status.
    pub status: u16,
    /// The head.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl TlsResponse {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl TlsClient {
    /// A connection, handshake included.
    ///
    /// # Errors
    /// It fails.
    pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        Self::over(config, socket, name)
    }

    /// The same, over a connection that stands.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn over(config: &Arc<ClientConfig>, socket: TcpStream, name: &str) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    /// Opens a connection with `opening`, which is not TLS, and the client's first message right behind it: the first
    /// `cut` bytes of both in a segment of their own.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn behind(
        opening: &[u8],
        cut: usize,
        config: &Arc<ClientConfig>,
        address: SocketAddr,
        name: &str,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut bytes = opening.to_vec();
        connection.write_tls(&mut bytes)?;
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        socket.write_all(first)?;
        socket.write_all(second)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    /// Sends a GET and reads the answer, which must have a length.
    ///
    /// # Errors
    /// The connection ends before the answer does.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<TlsResponse> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        self.response()
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(text.as_ref())?;
        self.stream.flush()
    }

    /// Reads an answer, which must have a length.
    ///
    /// # Errors
    /// The connection ends before the answer does.
    pub fn response(&mut self) -> io::Result<TlsResponse> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).map_err(io::Error::other)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {head}")))?;
        let mut response = TlsResponse { status, head, body: Vec::new() };
        let length = response.field("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        response.body.resize(length, 0);
        self.stream.read_exact(&mut response.body)?;
        Ok(response)
    }

    /// Reads to the end, which must be one that the other side has announced.
    ///
    /// # Errors
    /// The connection was cut.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).map(|_| bytes)
    }

    /// Whether the session went on from an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that was shown, in DER.
    pub fn served(&self) -> &[u8] {
        self.stream.conn.peer_certificates().and_then(|chain| chain.first()).map_or(&[], |leaf| leaf)
    }

    /// The rustls connection.
    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.stream.conn
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }
}

/// A socket from this address of ours, connected.
///
/// # Errors
/// Those of the kernel.
pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, connect, socket,
    };
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(TcpStream::from(socket))
}

/// Takes any certificate.
#[derive(Debug)]
struct Careless(Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A backend that speaks TLS: it answers each request with its name, and who the client is.
pub struct TlsBackend {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsBackend {
    /// One that shows this certificate; with `clients`, it insists on a certificate of that authority.
    ///
    /// # Panics
    /// If the certificate is none.
    pub fn start(name: &'static str, identity: &Issued, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).expect("a certificate");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let config = builder.with_single_cert(vec![identity.der.clone()], identity.private_key());
        let config = Arc::new(config.expect("a certificate and its key"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an address of ours");
        let address = listener.local_addr().expect("it is bound");
        let (accepted, ending) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (accepted.clone(), ending.clone());
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let config = config.clone();
                // Ends with its connection.
                std::thread::spawn(move || serve(name, config, socket));
            }
        });
        Self { address, accepted, ending, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for TlsBackend {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Answers requests without bodies until the client leaves or breaks the protocol.
fn serve(name: &str, config: Arc<ServerConfig>, socket: TcpStream) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let _patience = socket.set_read_timeout(Some(PATIENCE));
    let mut stream = StreamOwned::new(connection, socket);
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let client = if stream.conn.peer_certificates().is_some() { " knows you" } else { "" };
        let asked = stream.conn.server_name().unwrap_or("nobody").to_owned();
        let body = format!("{name}{client}, asked for {asked}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}
