//! The traffic secrets of a handshake, for a record layer of our own.
//!
//! rustls hands out keys after a handshake, but not the secrets that the next keys are made of when a side
//! updates them (RFC 8446 §7.2). It tells those to whoever logs keys, so that is what listens here.

use rustls::KeyLog;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::slot::Slot;

/// The longest secret: the output of SHA-384.
const SECRET_BYTES_MAX: usize = 48;

/// A traffic secret of TLS 1.3; as long as the hash of its cipher suite. Wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    bytes: [u8; SECRET_BYTES_MAX],
    len: usize,
}

/// The first application traffic secret of each direction.
#[derive(Debug)]
pub struct TrafficSecrets {
    /// What the client protects its data with.
    pub client: Secret,
    /// What the server protects its data with.
    pub server: Secret,
}

/// Catches the secrets of the handshake under way. One for all configurations of a worker: whoever drives a
/// handshake takes them after each call into rustls.
#[derive(Debug, Default)]
pub struct SecretCatcher {
    caught: Slot<Caught>,
}

#[derive(Debug, Default)]
struct Caught {
    client_random: [u8; 32],
    handshake: Option<Secret>,
    client: Option<Secret>,
    server: Option<Secret>,
}

/// What one call into rustls brought.
#[derive(Debug, Default)]
pub struct Secrets {
    /// What the client protects the rest of its handshake with.
    pub handshake: Option<Secret>,
    /// What both protect their data with.
    pub traffic: Option<TrafficSecrets>,
}

impl SecretCatcher {
    /// The secrets of the connection that rustls worked on last, as far as it came to them in that call: a server
    /// comes to all with its Finished, a client to those of data with the server's. Nothing is left behind.
    pub fn take_all(&self) -> Secrets {
        let caught = self.caught.take();
        let traffic = caught.client.zip(caught.server);
        Secrets {
            handshake: caught.handshake,
            traffic: traffic.map(|(client, server)| TrafficSecrets { client, server }),
        }
    }

    /// Of [`take_all`](Self::take_all) both secrets of data.
    pub fn take(&self) -> Option<TrafficSecrets> {
        self.take_all().traffic
    }
}

impl KeyLog for SecretCatcher {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let Some(secret) = Secret::new(secret) else { return };
        self.caught.update(|caught| {
            if caught.client_random != client_random {
                // Somebody has not taken theirs: two connections' secrets are never mixed.
                *caught = Caught::default();
                caught.client_random = client_random.try_into().unwrap_or_default();
            }
            match label {
                CLIENT => caught.client = Some(secret),
                SERVER => caught.server = Some(secret),
                HANDSHAKE => caught.handshake = Some(secret),
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER | HANDSHAKE)
    }
}

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
const HANDSHAKE: &str = "CLIENT_HANDSHAKE_TRAFFIC_SECRET";

impl Secret {
    /// None if it is longer than any.
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, len: secret.len() })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_in_pairs_and_once() {
        let catcher = SecretCatcher::default();
        assert!(catcher.take().is_none());
        catcher.log(CLIENT, &[1; 32], b"client");
        catcher.log(SERVER, &[1; 32], b"server");
        let secrets = catcher.take().expect("both");
        assert_eq!(secrets.client.as_bytes(), b"client");
        assert_eq!(secrets.server.as_bytes(), b"server");
        assert!(catcher.take().is_none());
        catcher.log(CLIENT, &[1; 32], b"client");
        assert!(catcher.take().is_none(), "one alone is none");
        assert_eq!(
            format!("{secrets:?}"),
            "TrafficSecrets { client: Secret(6 bytes), server: Secret(6 bytes) }"
        );
    }

    #[test]
    fn that_of_the_handshake_comes_before_the_others() {
        let catcher = SecretCatcher::default();
        catcher.log(HANDSHAKE, &[1; 32], b"handshake");
        let caught = catcher.take_all();
        assert_eq!(caught.handshake.as_ref().map(Secret::as_bytes), Some(&b"handshake"[..]));
        assert!(caught.traffic.is_none());
        catcher.log(HANDSHAKE, &[1; 32], b"handshake");
        catcher.log(CLIENT, &[2; 32], b"client");
        assert!(catcher.take_all().handshake.is_none(), "another connection's");
    }

    #[test]
    fn secrets_of_two_connections_are_never_mixed() {
        let catcher = SecretCatcher::default();
        catcher.log(CLIENT, &[1; 32], b"first");
        catcher.log(SERVER, &[2; 32], b"second");
        assert!(catcher.take().is_none());
        catcher.log(SERVER, &[1; 32], b"first");
        catcher.log(CLIENT, &[1; 32], b"first");
        catcher.log(SERVER, &[2; 32], b"second");
        catcher.log(CLIENT, &[2; 32], b"second");
        let secrets = catcher.take().expect("both");
        assert_eq!((secrets.client.as_bytes(), secrets.server.as_bytes()), (&b"second"[..], &b"second"[..]));
    }

    #[test]
    fn others_are_not_listened_to() {
        let catcher = SecretCatcher::default();
        for label in ["CLIENT_RANDOM", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "EXPORTER_SECRET"] {
            assert!(!catcher.will_log(label), "{label}");
        }
        catcher.log(CLIENT, &[1; 32], &[0; 49]);
        catcher.log(SERVER, &[1; 32], &[0; 48]);
        assert!(catcher.take().is_none(), "no hash is that long");
    }
}
