//! Other people's clients over TLS: curl and OpenSSL, and GnuTLS.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kakehi_command::proto::request::RequestType;
use kakehi_e2e::address::free_address;
use kakehi_e2e::http::Backend;
use kakehi_e2e::tls::{Authority, Kind};
use kakehi_e2e::{Proxy, requests, skipped};

struct Site {
    proxy: Proxy,
    address: SocketAddr,
    authority: PathBuf,
    body: String,
    _backend: Backend,
}

fn site() -> Site {
    let proxy = Proxy::builder().without_listener().start();
    let mut command = proxy.command();
    let address = free_address();
    let authority = Authority::default();
    let backend = Backend::named("hello from behind");
    command.ok(RequestType::AddHttpsListener(requests::https_listener(address)));
    command.ok(requests::activate_https_listener(address));
    command.ok(requests::add_cluster("a"));
    command.ok(requests::add_https_frontend("a", address, "localhost"));
    command.ok(requests::add_backend("a", "b", backend.address()));
    command.ok(authority.issue(&["localhost"]).add(address));
    command.ok(authority.issue_kind(Kind::Rsa, &["localhost"]).add(address));
    let file = proxy.directory().join("authority.pem");
    std::fs::write(&file, &authority.pem).expect("a file");
    Site { proxy, address, authority: file, body: "hello from behind".to_owned(), _backend: backend }
}

/// What a client printed, given what it is told; none if it is not installed.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    let mut child = match Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => {
            skipped(&format!("{program} is not installed"));
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it listens");
    let output = if program == "curl" {
        drop(stdin);
        child.wait_with_output().expect("it ends")
    } else {
        // They end with the connection, and would end it with their input.
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        output
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn curl_speaks_both_versions() {
    let site = site();
    let resolve = format!("localhost:{}:{}", site.address.port(), site.address.ip());
    let url = format!("https://localhost:{}/", site.address.port());
    let authority = site.authority.display().to_string();
    for version in [["--tls-max", "1.2"], ["--tls-max", "1.3"]] {
        let arguments =
            ["-sS", "--cacert", &authority, "--resolve", &resolve, version[0], version[1], &url, &url];
        let Some(output) = run("curl", &arguments, "") else { return };
        assert_eq!(output, site.body.repeat(2), "{version:?}");
    }
    site.proxy.stop();
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn openssl_gets_the_certificate_that_it_can_verify() {
    let site = site();
    let (connect, authority) = (site.address.to_string(), site.authority.display().to_string());
    for (choice, key) in [
        (&["-tls1_3"][..], "id-ecPublicKey"),
        (&["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"], "rsaEncryption"),
        (&["-tls1_2", "-sigalgs", "RSA+SHA256"], "rsaEncryption"),
        (&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], "id-ecPublicKey"),
        (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "id-ecPublicKey"),
        (&["-tls1_3", "-groups", "P-384"], "id-ecPublicKey"),
    ] {
        let mut arguments =
            vec!["s_client", "-connect", &connect, "-servername", "localhost", "-CAfile", &authority];
        arguments.extend(["-verify_return_error", "-ign_eof"]);
        arguments.extend(choice);
        let Some(output) = run("openssl", &arguments, REQUEST) else { return };
        assert!(output.contains(&site.body), "{choice:?}: {output}");
        assert!(output.contains("Verification: OK") || output.contains("Verify return code: 0"), "{output}");
        assert!(output.contains(key), "{choice:?}: {output}");
    }
    site.proxy.stop();
}

#[test]
fn gnutls_speaks_both_versions() {
    let site = site();
    let (ip, port) = (site.address.ip().to_string(), site.address.port().to_string());
    let cafile = format!("--x509cafile={}", site.authority.display());
    for priority in ["NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"] {
        let priority = format!("--priority={priority}");
        let arguments =
            [&cafile, &priority, "--sni-hostname=localhost", "--verify-hostname=localhost", "-p", &port, &ip];
        let Some(output) = run("gnutls-cli", &arguments, REQUEST) else { return };
        assert!(output.contains(&site.body), "{priority}: {output}");
    }
    site.proxy.stop();
}
