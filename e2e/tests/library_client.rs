//! A client written on Sōzu's published command library drives Kakehi: see `e2e/clients/sozu-command-lib`.

use std::net::SocketAddr;
use std::process::Command;

use kakehi_e2e::Proxy;
use kakehi_e2e::http::{Backend, get};

#[test]
#[ignore = "needs the client, which is built apart: SOZU_LIB_CLIENT"]
fn a_client_on_sozus_own_library_is_served() {
    let client = std::env::var_os("SOZU_LIB_CLIENT").expect("SOZU_LIB_CLIENT names the built client");
    let backend = Backend::named("hello");
    let proxy = Proxy::builder().start();
    let address = |address: SocketAddr| address.to_string();
    let output = Command::new(client)
        .arg(proxy.socket())
        .args([address(proxy.address()), address(backend.address())])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:#?}");
    // What it has configured is served.
    assert_eq!(get(proxy.address(), "lib.test", "/").text(), "hello");
    proxy.stop();
}
