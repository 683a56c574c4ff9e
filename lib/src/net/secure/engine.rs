//! rustls, for handshakes and for all of TLS 1.2: bytes in, bytes out. It owns no buffer.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ExtractedSecrets, ServerConfig};

/// One side of a connection.
pub(super) enum Engine {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What came of some bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fed {
    /// So many of them are not needed any more.
    pub(super) consumed: usize,
    /// The handshake is over.
    pub(super) established: bool,
    /// It is not, and yet data may be sent (RFC 8446 §2.3, figure 4).
    pub(super) may_write: bool,
    /// The peer said that it sends no more.
    pub(super) closed: bool,
}

impl Engine {
    /// Waits for a client's first words.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::Server(Box::new(UnbufferedServerConnection::new(config)?)))
    }

    /// Has the first words.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self::Client(Box::new(UnbufferedClientConnection::new(config, name)?)))
    }

    /// What both sides know of a connection.
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// Takes in what came. What is to be sent is appended to `flight`, what the peer sent as data to `plain`: if the
    /// handshake is not over, it is early data. What is not consumed has to come again, with more behind it.
    ///
    /// # Errors
    /// The peer broke the protocol, or is refused; `flight` has what it is to be told.
    pub(super) fn feed(
        &mut self,
        bytes: &mut [u8],
        flight: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<Fed, Error> {
        let mut fed = Fed::default();
        let done = match self {
            Self::Server(connection) => feed(bytes, &mut fed, flight, plain, |bytes, sinks| {
                step(connection.process_tls_records(bytes), sinks, |mut early, plain| {
                    if let ConnectionState::ReadEarlyData(early) = &mut early {
                        while let Some(Ok(record)) = early.next_record() {
                            plain.extend_from_slice(record.payload);
                        }
                    }
                })
            }),
            Self::Client(connection) => feed(bytes, &mut fed, flight, plain, |bytes, sinks| {
                step(connection.process_tls_records(bytes), sinks, |_, _| {})
            }),
        };
        if let Err(error) = done {
            // The alert that says why is queued.
            self.append_flight(bytes.get_mut(fed.consumed..).unwrap_or_default(), flight);
            return Err(error);
        }
        if self.common().is_handshaking() {
            fed.may_write = std::mem::take(&mut fed.established);
        }
        Ok(fed)
    }

    /// Appends what is queued to be sent. `rest` is what was not consumed: rustls remembers where in it it was.
    fn append_flight(&mut self, rest: &mut [u8], flight: &mut Vec<u8>) {
        // Not once too often: what was wrong with `rest` would be found again.
        while self.common().wants_write() {
            let more = match self {
                Self::Server(connection) => encode(connection.process_tls_records(rest).state, flight),
                Self::Client(connection) => encode(connection.process_tls_records(rest).state, flight),
            };
            if !more {
                return;
            }
        }
    }

    /// Seals one record of at most `plain`, appended to `sealed`; once the handshake is over only in TLS 1.2, before
    /// that only when data may be sent already. `rest` is what came and was not consumed, as far as it was fed.
    pub(super) fn seal(&mut self, rest: &mut [u8], plain: &[u8], sealed: &mut Vec<u8>) -> bool {
        match self {
            Self::Server(connection) => seal(connection.process_tls_records(rest).state, plain, sealed),
            Self::Client(connection) => seal(connection.process_tls_records(rest).state, plain, sealed),
        }
    }

    /// Says that we send no more, appended to `sealed`. `rest` is what came and was not consumed.
    pub(super) fn close(&mut self, rest: &mut [u8], sealed: &mut Vec<u8>) {
        match self {
            Self::Server(connection) => close(connection.process_tls_records(rest).state, sealed),
            Self::Client(connection) => close(connection.process_tls_records(rest).state, sealed),
        }
    }

    /// The keys of a TLS 1.3 connection whose handshake is over, with how many records they were used for.
    pub(super) fn into_secrets(self) -> Result<ExtractedSecrets, Error> {
        Ok(match self {
            Self::Server(connection) => connection.dangerous_into_kernel_connection()?.0,
            Self::Client(connection) => connection.dangerous_into_kernel_connection()?.0,
        })
    }
}

/// Where the output of a step goes.
struct Sinks<'a> {
    flight: &'a mut Vec<u8>,
    plain: &'a mut Vec<u8>,
}

/// What one step of rustls led to.
enum Stepped {
    /// There is more to do with the same bytes.
    Again,
    /// More bytes have to come.
    Blocked,
    /// As before, and the handshake is over.
    Established,
    /// The peer has closed.
    Closed,
}

fn feed(
    bytes: &mut [u8],
    fed: &mut Fed,
    flight: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    mut turn: impl FnMut(&mut [u8], &mut Sinks<'_>) -> (usize, Result<Stepped, Error>),
) -> Result<(), Error> {
    let mut sinks = Sinks { flight, plain };
    loop {
        let Some(rest) = bytes.get_mut(fed.consumed..) else { return Ok(()) };
        let (discard, stepped) = turn(rest, &mut sinks);
        fed.consumed += discard;
        match stepped? {
            Stepped::Again => {}
            Stepped::Blocked => return Ok(()),
            Stepped::Established => {
                fed.established = true;
                return Ok(());
            }
            Stepped::Closed => {
                fed.closed = true;
                return Ok(());
            }
        }
    }
}

fn step<'c, 'i, Data>(
    status: UnbufferedStatus<'c, 'i, Data>,
    sinks: &mut Sinks<'_>,
    early: impl FnOnce(ConnectionState<'c, 'i, Data>, &mut Vec<u8>),
) -> (usize, Result<Stepped, Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let stepped = state.map(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => {
            append(sinks.flight, |room| data.encode(room).map_err(|error| needed(&error)));
            Stepped::Again
        }
        // What is in `flight` is as good as sent.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Stepped::Again
        }
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(Ok(record)) = traffic.next_record() {
                discard += record.discard;
                sinks.plain.extend_from_slice(record.payload);
            }
            Stepped::Again
        }
        state @ ConnectionState::ReadEarlyData(_) => {
            early(state, sinks.plain);
            Stepped::Again
        }
        // Or data may be sent before it is.
        ConnectionState::WriteTraffic(_) => Stepped::Established,
        ConnectionState::PeerClosed | ConnectionState::Closed => Stepped::Closed,
        // Nothing else waits but a handshake.
        _ => Stepped::Blocked,
    });
    (discard, stepped)
}

/// Appends what is queued; false if nothing was.
fn encode<Data>(state: Result<ConnectionState<'_, '_, Data>, Error>, flight: &mut Vec<u8>) -> bool {
    match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            append(flight, |room| data.encode(room).map_err(|error| needed(&error)));
            true
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            true
        }
        _ => false,
    }
}

fn seal<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    plain: &[u8],
    sealed: &mut Vec<u8>,
) -> bool {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return false };
    append(sealed, |room| traffic.encrypt(plain, room).map_err(|error| wanting(&error)))
}

fn close<Data>(state: Result<ConnectionState<'_, '_, Data>, Error>, sealed: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
        append(sealed, |room| traffic.queue_close_notify(room).map_err(|error| wanting(&error)));
    }
}

/// Lets `write` write behind what is there: it says how many bytes it wrote, or how many it needs, if more room
/// would help. False if nothing was written.
fn append(to: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) -> bool {
    let start = to.len();
    let mut written = write(&mut []);
    if let Err(Some(room)) = written {
        to.resize(start + room, 0);
        written = write(to.get_mut(start..).unwrap_or_default());
    }
    to.truncate(start + written.unwrap_or(0));
    written.is_ok()
}

fn needed(error: &rustls::unbuffered::EncodeError) -> Option<usize> {
    match error {
        rustls::unbuffered::EncodeError::InsufficientSize(size) => Some(size.required_size),
        rustls::unbuffered::EncodeError::AlreadyEncoded => None,
    }
}

fn wanting(error: &rustls::unbuffered::EncryptError) -> Option<usize> {
    match error {
        rustls::unbuffered::EncryptError::InsufficientSize(size) => Some(size.required_size),
        rustls::unbuffered::EncryptError::EncryptExhausted => None,
    }
}

/// The type says what it is; what is in it says too much.
impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        })
    }
}
