//! Other people's clients over TLS: curl and OpenSSL, and GnuTLS.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{AddCertificate, CertificateAndKey};
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

/// Has OpenSSL make things in a directory. False if it is not installed.
fn make(directory: &Path, commands: &[&str]) -> bool {
    for command in commands {
        let arguments: Vec<_> = command.split(' ').collect();
        let output = match Command::new("openssl").args(&arguments).current_dir(directory).output() {
            Ok(output) => output,
            Err(_) => {
                skipped("openssl is not installed");
                return false;
            }
        };
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    true
}

#[test]
fn a_response_of_a_real_responder_is_stapled() {
    let site = site();
    let directory = site.proxy.directory();
    // What a CA's database says: one certificate is good, one is revoked.
    let database = "V\t401231235959Z\t\t1234567890ABCDEF\tunknown\t/CN=good\n\
                    R\t401231235959Z\t260101000000Z\t2234567890ABCDEF\tunknown\t/CN=revoked\n";
    std::fs::write(directory.join("index.txt"), database).expect("a file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let mut commands = vec![format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=CA -days 2")];
    for (name, serial) in [("good", "0x1234567890ABCDEF"), ("revoked", "0x2234567890ABCDEF")] {
        commands.extend([
            format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name} -addext subjectAltName=DNS:{name}"),
            format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -copy_extensions copy \
                 -days 1 -out {name}.pem"
            ),
            format!("ocsp -issuer ca.pem -cert {name}.pem -no_nonce -reqout {name}.req"),
            format!(
                "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -reqin {name}.req -ndays 1 \
                 -respout {name}.ocsp"
            ),
        ]);
    }
    if !make(directory, &commands.iter().map(String::as_str).collect::<Vec<_>>()) {
        return;
    }
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).expect("OpenSSL wrote it");
    let add = |name: &str, response: &str| {
        let ocsp_response = Some(std::fs::read(directory.join(response)).expect("OpenSSL wrote it"));
        let mut certificate = CertificateAndKey::default();
        certificate.certificate = text(&format!("{name}.pem"));
        certificate.key = text(&format!("{name}.key"));
        certificate.ocsp_response = ocsp_response;
        let address = requests::wire_address(site.address);
        RequestType::AddCertificate(AddCertificate { address, certificate, expired_at: None })
    };
    let mut command = site.proxy.command();
    let other = command.refused(add("good", "revoked.ocsp"));
    assert!(other.contains("certificate `good`: the OCSP response is not about this certificate"), "{other}");
    let revoked = command.refused(add("revoked", "revoked.ocsp"));
    assert!(revoked.contains("the OCSP response says that the certificate is revoked"), "{revoked}");
    command.ok(add("good", "good.ocsp"));
    let connect = site.address.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let ca = directory.join("ca.pem").display().to_string();
        let arguments =
            ["s_client", "-connect", &connect, "-servername", "good", "-CAfile", &ca, "-status", version];
        let Some(output) = run("openssl", &arguments, REQUEST) else { return };
        assert!(output.contains("OCSP Response Status: successful (0x0)"), "{version}: {output}");
        assert!(output.contains("Cert Status: good"), "{version}: {output}");
    }
    site.proxy.stop();
}
