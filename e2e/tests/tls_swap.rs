//! A certificate is replaced again and again under handshake load: no handshake fails, and each that begins after the OK
//! sees the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::Backend;
use kakehi_e2e::tls::{Authority, TlsClient};
use kakehi_e2e::{Proxy, requests};

/// Replacements; `KAKEHI_SWAPS` says otherwise.
const SWAPS: usize = 10_000;

/// Threads that shake hands meanwhile.
const THREADS: usize = 2;

#[test]
#[expect(clippy::disallowed_methods, reason = "more can be asked for by hand")]
fn each_handshake_after_the_ok_sees_the_new_certificate_and_none_fails() {
    let swaps = std::env::var("KAKEHI_SWAPS").ok().and_then(|swaps| swaps.parse().ok()).unwrap_or(SWAPS);
    let proxy = Proxy::builder().without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let authority = Authority::default();
    let pair = [authority.issue(&["a.test"]), authority.issue(&["a.test"])];
    let backend = Backend::named("a");
    command.ok(RequestType::AddHttpsListener(requests::https_listener(address)));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "a.test"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(pair[0].add(address));

    let (ending, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (ending, shaken) = (ending.clone(), shaken.clone());
            // Half of them go on with sessions of before, whatever certificate those began with.
            let options = authority.client();
            let kept = options.config();
            std::thread::spawn(move || {
                while !ending.load(Ordering::SeqCst) {
                    let config = if thread % 2 == 0 { kept.clone() } else { options.config() };
                    let mut client = TlsClient::connect(&config, address, "a.test").expect("a handshake");
                    assert_eq!(client.get("a.test", "/").expect("an answer").text(), "a");
                    shaken.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..swaps {
        let (old, new) = (&pair[round % 2], &pair[(round + 1) % 2]);
        command.ok(new.replace(address, old));
        let client = authority.client().connect(address, "a.test").expect("a handshake");
        assert_eq!(client.served(), &new.der[..], "round {round}");
    }
    ending.store(true, Ordering::SeqCst);
    for thread in load {
        thread.join().expect("no handshake and no request failed");
    }
    let shaken = shaken.load(Ordering::SeqCst);
    println!("{swaps} replacements, {shaken} handshakes beside");
    assert!(shaken > 0);
    proxy.stop();
}
