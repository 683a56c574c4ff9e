//! A TLS connection before and after its handshake, as strangers may drive it: bytes in pieces, a wire that takes little.
//!
//! The first byte chooses the version, and whether the input is what a stranger sends, or is laid over what a real client
//! does send. Whatever comes: nothing panics, every buffer comes back, no handshake is counted that is over, and a
//! connection that has failed says so.

#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use kakehi_lib::net::secure::{Acceptor, Room, Tls};
use kakehi_lib::net::socket::Socket;
use kakehi_lib::net::{Read, Ready, Stream, Write};
use kakehi_lib::tls::certificates::Entry;
use kakehi_lib::tls::material::{Material, Source};
use kakehi_lib::tls::server_config::{ServerSettings, Shared, server_config};
use kakehi_lib::tls::ticket_keys::{LIFETIME_DEFAULT, TicketKeys};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[derive(Debug)]
struct Identity {
    der: Vec<u8>,
    key: Vec<u8>,
}

static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let der = params.self_signed(&key).expect("signed").der().to_vec();
    Arc::new(Identity { der, key: key.serialize_der() })
});

impl Source for Identity {
    fn chain(&self) -> Vec<CertificateDer<'_>> {
        vec![CertificateDer::from(&*self.der)]
    }

    fn key(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::Pkcs8(self.key.as_slice().into())
    }

    fn ocsp_response(&self) -> Option<&[u8]> {
        None
    }
}

#[derive(Default)]
struct Wire {
    incoming: Rc<RefCell<VecDeque<u8>>>,
    outgoing: Rc<RefCell<Vec<u8>>>,
    step: usize,
}

impl Stream for Wire {
    type Pipe = ();

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.step).min(incoming.len());
        into.iter_mut().zip(incoming.drain(..count)).for_each(|(slot, byte)| *slot = byte);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.step);
        self.outgoing.borrow_mut().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_pair(&mut self, first: &[u8], _second: &[u8]) -> io::Result<usize> {
        self.write(first)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let incoming = self.incoming.borrow();
        if incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(into.iter_mut().zip(incoming.iter()).map(|(slot, byte)| *slot = *byte).count())
    }

    fn is_quiet(&mut self) -> bool {
        self.incoming.borrow().is_empty()
    }

    fn abort(&mut self) {}

    fn fill(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drain(&mut self, (): &mut (), _max: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unacknowledged(&mut self) -> Option<u64> {
        None
    }
}

fn client(legacy: bool) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.der.clone().into()).expect("a certificate");
    let version = if legacy { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").expect("a name"))
        .expect("a client")
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut input)) = input.split_first() else { return };
    let shared = Shared::default();
    shared.clock.set(1_790_000_000);
    shared.ticket_keys.replace(TicketKeys::new(Vec::new(), LIFETIME_DEFAULT).rotate(1_790_000_000, &[7; 48]));
    let material = Material::accepted(IDENTITY.clone()).expect("it can be served");
    let entry = Entry::new([0; 32], ["localhost"], i64::MAX, Arc::new(material));
    let config = server_config(&ServerSettings::default(), &shared, Arc::default(), Some(Arc::new(entry)))
        .expect("sound settings");
    let room = Room::new(4, 1, shared.secrets.clone());
    let acceptor = Acceptor { config, choices: shared.choices.clone() };
    let wire = Wire {
        step: if choice & 4 == 0 { usize::MAX } else { 1 + usize::from(choice >> 3) },
        ..Wire::default()
    };
    let (incoming, outgoing) = (wire.incoming.clone(), wire.outgoing.clone());
    let mut socket = Socket::accepted(wire, 0);
    let permit = room.permit([127, 0, 0, 1].into(), None).expect("the first");
    let mut tls = Tls::accept(&room, &acceptor, permit).expect("sound settings");
    let mut client = (choice & 1 == 1).then(|| client(choice & 2 == 2));
    let (mut failed, mut plain) = (false, [0; 512]);
    for _ in 0..64 {
        let mut sent = Vec::new();
        if let Some(client) = &mut client {
            while client.wants_write() {
                client.write_tls(&mut sent).expect("memory");
            }
            // Pairs of a place and a change, as long as there are any.
            while let [place, change, rest @ ..] = input {
                input = rest;
                if *change == 0 {
                    break;
                }
                let place = usize::from(*place) * 3;
                if let Some(byte) = sent.get_mut(place) {
                    *byte ^= change;
                }
            }
        } else {
            let (piece, rest) = input.split_at(input.len().min(700));
            sent.extend_from_slice(piece);
            input = rest;
        }
        incoming.borrow_mut().extend(sent);
        socket.note(Ready { readable: true, writable: true, ..Ready::default() });
        for _ in 0..4096 {
            if failed || !(socket.is_readable() || tls.wants_turn(true)) {
                break;
            }
            match tls.read(&mut socket, &mut plain) {
                Read::Bytes(_) | Read::Nothing => {}
                Read::Thirsty => panic!("nobody else has buffers"),
                Read::End | Read::Failed(_) => failed = true,
            }
            socket.note(Ready {
                readable: !incoming.borrow().is_empty(),
                writable: true,
                ..Ready::default()
            });
        }
        if !failed && !tls.is_handshaking() {
            failed |= matches!(tls.write(&mut socket, b"answer", &[]), Write::Failed(_));
        }
        if let Some(client) = &mut client {
            let bytes: Vec<u8> = outgoing.borrow_mut().drain(..).collect();
            let mut bytes = &bytes[..];
            while !bytes.is_empty() && client.read_tls(&mut bytes).is_ok() {
                if client.process_new_packets().is_err() {
                    break;
                }
            }
        }
    }
    if failed {
        assert!(matches!(tls.read(&mut socket, &mut plain), Read::End | Read::Failed(_)), "it stays so");
        assert!(!tls.is_handshaking());
        assert_eq!(room.handshakes(), 0, "what has failed is over");
    }
    drop(tls);
    assert_eq!((room.buffers_in_use(), room.handshakes()), (0, 0));
    room.check_invariants();
});
