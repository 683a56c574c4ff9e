//! TLS on a client's side: rustls as anybody would use it, between an actor and its connection.
//!
//! To an actor a secured connection is like any other ([`World::send`], [`World::receive`]); what it sends and reads is
//! counted in bytes of its own. rustls is the judge of all that the proxy writes: a record that it does not take is
//! a finding. The certificate is not verified against anybody's, but has to be one of those that the proxy was
//! given, and the right one at that time.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use rustls::{Error, version};

use super::certificates::Shown;
use super::randomness;
use super::rng::Rng;
use super::world::{ActorRead, ConnectionId, World};
use crate::tls::clock::Clock;

/// What one client speaks TLS with: what it remembers of earlier connections is in there.
#[derive(Debug, Clone)]
pub(super) struct User {
    config: Arc<ClientConfig>,
    habits: Habits,
}

/// Of a record (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// How a client uses TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// How often it updates its keys before it sends something.
    updates_percent: usize,
    /// Its records are no longer than this.
    record_bytes_max: usize,
    /// Ends its direction in TLS alone: the socket's goes on.
    keeps_socket: bool,
    /// Closes without a farewell, as many do.
    rude: bool,
}

impl User {
    /// A client of TLS 1.2 alone, or of any version.
    pub(super) fn draw(old: bool, body_bytes_max: usize, clock: &Arc<Clock>, rng: &mut Rng) -> Self {
        let provider = randomness::provider();
        let versions = if old { &[&version::TLS12][..] } else { &[&version::TLS13, &version::TLS12] };
        let mut config = ClientConfig::builder_with_details(provider.clone(), clock.clone())
            .with_protocol_versions(versions)
            .expect("versions that the provider has")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Signed(provider)))
            .with_no_client_auth();
        if rng.percent(50) {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        if rng.percent(30) {
            config.resumption = Resumption::disabled();
        }
        // A hello in several records, among others.
        config.max_fragment_size = rng.pick(&[None, None, Some(32), Some(300)]);
        let fragment = config.max_fragment_size.map_or(usize::MAX, |size| size - HEADER_BYTES);
        let bytes_max = if body_bytes_max < 1000 { [1, 7, 50] } else { [50, 1000, 16_384] };
        let habits = Habits {
            updates_percent: rng.pick(&[0, 0, 3, 20]),
            record_bytes_max: rng.pick(&bytes_max).min(fragment),
            keeps_socket: rng.percent(30),
            rude: rng.percent(20),
        };
        Self { config: Arc::new(config), habits }
    }
}

impl User {
    /// The same, with nothing behind a handshake but plain records.
    pub(super) fn plain(mut self) -> Self {
        self.habits.record_bytes_max = usize::MAX;
        self.habits.updates_percent = 0;
        self
    }
}

/// Checks what the handshake itself rests on, and leaves the certificate to the model.
#[derive(Debug)]
struct Signed(Arc<CryptoProvider>);

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// See the module.
pub(super) struct Tls {
    connection: ClientConnection,
    habits: Habits,
    rng: Rng,
    /// The name that was asked for.
    sni: Option<&'static str>,
    /// Sealed, and not taken by the connection yet.
    out: VecDeque<u8>,
    /// Bytes of the wire that were sealed.
    sealed: u64,
    /// Bytes of the actor that were sealed, and that it has read.
    sent: u64,
    read: u64,
    /// Where on the wire records of the actor's end, and how many of its bytes that makes.
    marks: VecDeque<(u64, u64)>,
    /// Of what was sealed, the last bytes that say so.
    farewell_bytes: usize,
    /// The direction ends once everything has gone.
    finishing: bool,
    /// Its end was told to the actor, or a failure.
    pub(super) over: bool,
    established: bool,
    /// Updates of keys that may still be asked for: rustls wants no more answers than that behind each other.
    updates_left: usize,
    /// Nothing goes out any more, whatever there is.
    mute_from: Option<u64>,
    /// This byte of the wire is turned.
    corrupt_at: Option<u64>,
    /// For the trace: of all bytes both ways.
    digest: u64,
}

/// What a client knows of a handshake of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handshaken {
    pub(super) sni: Option<&'static str>,
    pub(super) resumed: bool,
    pub(super) shown: Option<Shown>,
    /// Which certificates were served when the proxy answered.
    pub(super) era: usize,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { habits, sni, out, sealed, sent, read, established, over, .. } = self;
        let out = out.len();
        write!(f, "Tls({sni:?}, {habits:?}, {sealed} sealed, {out} to go, {sent} sent, {read} read, ")?;
        write!(f, "established: {established}, over: {over})")
    }
}

impl Tls {
    pub(super) fn new(user: &User, sni: Option<&'static str>, rng: Rng) -> Box<Self> {
        // An address is no name: it is not sent.
        let name = sni.unwrap_or("198.51.100.1");
        let name = ServerName::try_from(name).expect("a name");
        let mut connection = ClientConnection::new(user.config.clone(), name).expect("it can be used");
        connection.set_buffer_limit(None);
        let mut tls = Box::new(Self {
            connection,
            habits: user.habits,
            rng,
            sni,
            out: VecDeque::new(),
            sealed: 0,
            sent: 0,
            read: 0,
            marks: VecDeque::new(),
            finishing: false,
            farewell_bytes: 0,
            over: false,
            established: false,
            updates_left: 30,
            mute_from: None,
            corrupt_at: None,
            digest: 0,
        });
        tls.collect();
        tls
    }

    /// Nothing but this part of the hello is ever sent.
    pub(super) fn mute(&mut self, percent: usize) {
        self.out.truncate(self.out.len() * percent / 100);
        self.mute_from = Some(0);
    }

    /// One bit of the hello is another.
    pub(super) fn spoil(&mut self, percent: usize) {
        let at = (self.out.len() - 1) * percent / 100;
        self.out[at] ^= 1 << (at % 8);
    }

    /// What rustls has to send.
    fn collect(&mut self) {
        let mut wire = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut wire).expect("memory takes all");
        }
        if let Some(at) = self.corrupt_at
            && let Some(byte) =
                at.checked_sub(self.sealed).and_then(|at| wire.get_mut(usize::try_from(at).ok()?))
        {
            *byte ^= 1 << (at % 8);
        }
        if let Some(from) = self.mute_from {
            wire.truncate(usize::try_from(from.saturating_sub(self.sealed)).expect("fits"));
        }
        self.sealed += wire.len() as u64;
        self.digest(&wire);
        self.out.extend(wire);
    }

    fn digest(&mut self, bytes: &[u8]) {
        let mix = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.digest = bytes.iter().fold(self.digest, mix);
    }

    /// Takes bytes of the actor's, if the last ones have gone.
    fn seal(&mut self, bytes: &[u8]) -> usize {
        if self.connection.is_handshaking() || !self.out.is_empty() || bytes.is_empty() {
            return 0;
        }
        if self.updates_left > 0 && self.rng.percent(self.habits.updates_percent) {
            self.updates_left -= 1;
            // Of no use to TLS 1.2, which says so.
            let _ = self.connection.refresh_traffic_keys();
        }
        let count = self.rng.within(1..=bytes.len().min(self.habits.record_bytes_max));
        // Mostly everything: a body in records of a few bytes takes long.
        let count = if self.rng.percent(60) { bytes.len().min(self.habits.record_bytes_max) } else { count };
        self.connection.writer().write_all(&bytes[..count]).expect("it takes all");
        self.collect();
        self.sent += count as u64;
        self.marks.push_back((self.sealed, self.sent));
        count
    }

    /// Takes bytes of the wire; gives what they say.
    fn open(&mut self, mut wire: &[u8]) -> Result<Vec<u8>, Error> {
        self.digest(wire);
        let mut plain = Vec::new();
        let mut result = Ok(());
        while !wire.is_empty() && result.is_ok() {
            self.connection.read_tls(&mut wire).expect("memory has all");
            result = self.connection.process_new_packets().map(drop);
            // It has an end only once the peer has said so: until then there is always more to wait for.
            let _ = self.connection.reader().read_to_end(&mut plain);
        }
        self.read += plain.len() as u64;
        self.collect();
        match result {
            Err(error) if plain.is_empty() => {
                self.over = true;
                Err(error)
            }
            _ => Ok(plain),
        }
    }

    /// Whether the peer has said so, or what broke, which is told once.
    fn has_ended(&mut self) -> Result<bool, Error> {
        match self.connection.process_new_packets() {
            Ok(state) => Ok(state.peer_has_closed()),
            Err(_) if self.over => Ok(false),
            Err(error) => {
                self.over = true;
                Err(error)
            }
        }
    }

    /// Bytes of the actor's in records that are whole within this many bytes of the wire.
    fn whole_within(&self, wire: u64) -> u64 {
        self.marks.iter().take_while(|(end, _)| *end <= wire).last().map_or(0, |&(_, sent)| sent)
    }

    /// Says that nothing more is sent.
    fn farewell(&mut self) {
        let before = self.sealed;
        if !self.connection.is_handshaking() {
            self.connection.send_close_notify();
        }
        self.collect();
        self.farewell_bytes += usize::try_from(self.sealed - before).expect("fits");
    }

    /// Whether so many bytes on their way, and those that are not yet, are a farewell and nothing else.
    pub(super) fn is_farewell_under_way(&self, bytes: usize) -> bool {
        (1..=self.farewell_bytes).contains(&(bytes + self.out.len()))
    }
}

impl World {
    /// The TLS of a client's connection, if it has some.
    pub(super) fn tls(&self, id: ConnectionId) -> Option<&Tls> {
        self.connections[id].tls.as_deref()
    }

    /// Counted in bytes of the client's: what the proxy has had, in whole records; what it has sent.
    pub(super) fn secured_taken_by_proxy(&self, id: ConnectionId) -> Option<u64> {
        let connection = &self.connections[id];
        connection.tls.as_ref().map(|tls| tls.whole_within(connection.to_proxy.read))
    }

    pub(super) fn secured_sent(&self, id: ConnectionId) -> Option<u64> {
        self.tls(id).map(|tls| tls.sent)
    }

    pub(super) fn secured_read(&self, id: ConnectionId) -> Option<u64> {
        self.tls(id).map(|tls| tls.read)
    }

    /// Sends what was sealed, as far as it goes. Whether anything moved.
    pub(super) fn pump(&mut self, id: ConnectionId) -> bool {
        let connection = &mut self.connections[id];
        let Some(tls) = connection.tls.as_mut() else { return false };
        if connection.actor_reset || connection.actor_closed || connection.to_proxy.fin_sent {
            tls.out.clear();
            return false;
        }
        let count = connection.to_proxy.push(tls.out.make_contiguous());
        tls.out.drain(..count);
        let ends = tls.finishing && tls.out.is_empty();
        connection.to_proxy.fin_sent |= ends;
        count > 0 || ends
    }

    pub(super) fn send_secured(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        self.pump(id);
        let Some(tls) = self.connections[id].tls.as_mut() else { return 0 };
        if tls.over {
            return 0;
        }
        let count = tls.seal(bytes);
        self.pump(id);
        count
    }

    pub(super) fn receive_secured(&mut self, id: ConnectionId, max: usize) -> ActorRead {
        let mut wire = vec![0; max.min(self.connections[id].to_actor.arrived.len())];
        let count = self.pull(id, &mut wire);
        let connection = &mut self.connections[id];
        let Some(tls) = connection.tls.as_mut() else { return ActorRead::Nothing };
        if count > 0 {
            let opened = tls.open(&wire);
            let had = std::mem::replace(&mut tls.established, !tls.connection.is_handshaking());
            let news = tls.established && !had;
            self.pump(id);
            if news {
                self.note(|| format!("c{id} has a handshake"));
            }
            return match opened {
                Err(error) => ActorRead::Broken(error),
                Ok(plain) if plain.is_empty() => ActorRead::Progress,
                Ok(plain) => ActorRead::Bytes(plain),
            };
        }
        let ended = if max > 0 { tls.has_ended() } else { Ok(false) };
        if let Err(error) = ended {
            ActorRead::Broken(error)
        } else if ended == Ok(true) {
            ActorRead::End
        } else if connection.to_actor.fin_arrived {
            ActorRead::Truncated
        } else if connection.actor_reset {
            ActorRead::Reset
        } else {
            ActorRead::Nothing
        }
    }

    /// Whether the proxy may be through with a handshake: the client has had a part of its answer, at least.
    pub(super) fn is_answered(&self, id: ConnectionId) -> bool {
        self.tls(id).is_some_and(|tls| tls.connection.protocol_version().is_some())
    }

    /// What came of a handshake, once it is over.
    pub(super) fn handshaken(&self, id: ConnectionId) -> Option<Handshaken> {
        let connection = &self.connections[id];
        let tls = connection.tls.as_ref().filter(|tls| tls.established)?;
        let leaf = tls.connection.peer_certificates().and_then(|chain| chain.first());
        Some(Handshaken {
            sni: tls.sni,
            resumed: tls.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            shown: leaf.and_then(|leaf| Shown::of(leaf)),
            era: connection.answered_in?,
        })
    }

    /// The name that a client asked for, and which certificates were served when the proxy answered.
    pub(super) fn asked_for(&self, id: ConnectionId) -> (Option<&'static str>, Option<usize>) {
        (self.tls(id).and_then(|tls| tls.sni), self.connections[id].answered_in)
    }

    /// Behind so many more bytes a connection sends another one than it should, or none any more.
    pub(super) fn spoil_next(&mut self, id: ConnectionId, at: u64, mute: bool) {
        let Some(tls) = self.connections[id].tls.as_mut() else { return };
        let at = tls.sealed + at;
        if mute {
            tls.mute_from = Some(at);
        } else {
            tls.corrupt_at = Some(at);
        }
    }

    /// Whether everything that was sealed has gone.
    pub(super) fn is_sent(&self, id: ConnectionId) -> bool {
        self.tls(id).is_none_or(|tls| tls.out.is_empty())
    }

    /// Since when the proxy has known of a connection.
    pub(super) fn since_accepted(&self, id: ConnectionId) -> Option<Duration> {
        self.connections[id].accepted_at.map(|at| self.now.saturating_duration_since(at))
    }

    /// The client ends its direction: in TLS, and mostly on the socket.
    pub(super) fn finish_secured(&mut self, id: ConnectionId) {
        if let Some(tls) = self.connections[id].tls.as_mut() {
            tls.farewell();
            tls.finishing = !tls.habits.keeps_socket || tls.connection.is_handshaking();
        }
        self.pump(id);
    }

    /// What a client still has to send when it closes is the kernel's to send.
    pub(super) fn close_secured(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let Some(tls) = connection.tls.as_mut() else { return };
        if !tls.habits.rude {
            tls.farewell();
        }
        let digest = tls.digest;
        if !connection.actor_reset && !connection.to_proxy.fin_sent {
            connection.to_proxy.push_all(tls.out.make_contiguous());
        }
        tls.out.clear();
        self.note(|| format!("c{id} all bytes: {digest:016x}"));
    }
}
